"""One number, wherever it is asked for: the benchmark, `predict` and the server's own endpoint."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetune_assets.asking.predictions import requests_of, settings
from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.calibration.reliability import brier_score, log_loss
from finetune_assets.predictor import Predictor, Question
from finetune_assets.provider import decisions
from finetune_assets.results.region import Outputs, Region
from finetune_assets.results.standing import standing
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("finished_region")


def test_benchmark_predict_and_endpoint_say_the_same(
    finished: Finished, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    project, task = finished.project, finished.project.task
    champion = standing(Region(task, "mono", Outputs(root=str(project.root)))).champion
    assert champion is not None
    table = pd.read_parquet(project.output("benchmark", ".parquet"))
    rows = table.loc[(table["role"] == "fine_tuned") & (table["split"] == "test")]
    fitted: Any = calibration.load(champion.calibrator)
    judged = fitted.apply(rows["p_positive"].to_numpy())

    predictor = Predictor(task, champion, fitted)
    predicted = [found.p_calibrated for found in predictor.predict(Question(image=path) for path in rows["image"])]
    assert predicted == pytest.approx(judged, abs=1e-6)

    examples = pd.read_parquet(project.output("filtered_qa", ".parquet")).set_index("example_id")
    asked = examples.loc[rows["example_id"]].reset_index()
    answered, client = [], server.client()
    for messages in requests_of(task, asked):
        body = json.loads(decisions.body(settings(task, (), champion.model), messages, raw=False))
        (answer,) = client.decisions.create(**body).answers
        assert answer.type == "choice" and (answer.model_extra or {})["calibrated"] is True
        answered.append(answer.probabilities[0].probability)
        predicate = body | {"questions": [{"type": "predicate", "instructions": body["questions"][0]["instructions"]}]}
        (alone,) = client.decisions.create(**predicate).answers
        assert alone.type == "predicate"
        assert alone.probability == pytest.approx(answered[-1], abs=1e-9)
    assert answered == pytest.approx(judged, abs=1e-6)

    report = json.loads(project.output("calibrator", ".json").read_text())["report"]["after"]
    truth = (rows["truth"] == "Yes").to_numpy().astype(float)
    assert log_loss(np.array(answered), truth) == pytest.approx(report["log_loss"], abs=1e-6)
    assert brier_score(np.array(answered), truth) == pytest.approx(report["brier"], abs=1e-6)
