"""Pipelines on PostgreSQL and an object store: the same as on one machine, byte for byte, and one job for two of them.

They run with `FINETUNE_ASSETS_LONG_TESTS=1`. Sources in the store have tests of their own: `stages/test_object_store`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from upath import UPath

from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.machines import at_once
from finetune_assets_tests.object_store import upload
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task
from finetune_assets_tests.postgres_server import new_schema
from finetune_assets_tests.server.cluster import Cluster, cluster
from finetune_assets_tests.server.conftest import wait
from finetune_assets_tests.server_process import ServerProcess

pytestmark = long

PREPARE_IT = """
import sys
from pathlib import Path
from upath import UPath
from finetune_assets.pipeline.stage import PREPARE
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import Project, failures
project = Project(Task.model_validate_json(Path(sys.argv[1]).read_text()), UPath(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
done = project.run(*PREPARE)
sys.exit(failures(done) if not done.success else 0)
"""


@pytest.fixture
def shared(
    tmp_path: Path, postgres: str, server: ServerProcess, vision_model: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A server and a worker that share a database and a store with all others, and have the models of `server`."""
    names = yaml.safe_load((server.home / "models.yaml").read_text())
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", new_schema(postgres))
    with cluster(tmp_path / "cluster", postgres, models={vision_model: names[vision_model]}) as made:
        yield made


def elsewhere(finished: Finished, address: str, cells: Path, bucket: str) -> Project:
    """The project of `finished` with its source and its outputs in the store, and another server."""
    upload(cells, f"{bucket}/cells")
    fields: dict[str, Any] = json.loads(finished.project.task.model_dump_json(exclude_unset=True))
    fields["source"]["path"] = f"{bucket}/cells/cells.jsonl"
    return Project(make_task(**fields | {"provider": address}), UPath(f"{bucket}/outputs"))


def bucket_of(shared: Cluster) -> str:
    assert shared.shared.store
    return shared.shared.store.removesuffix("/server")


@pytest.mark.timeout(6 * PATIENCE_S)
def test_all_stages_make_in_a_store_and_a_database_what_they_make_in_a_folder(
    finished: Finished, shared: Cluster
) -> None:
    here, one = finished.project, shared.server("one")
    shared.worker("worker")
    there = elsewhere(finished, one.base_url, Path(str(here.root)).parent / "cells", bucket_of(shared))
    prepared = there.run(*PREPARE)
    assert prepared.success, failures(prepared)
    job_id = json.loads(there.output("finetune_job", ".json").read_text())["job_id"]
    job = wait(one.client(), job_id)
    assert (job.status, job.error) == ("succeeded", None)
    evaluated = there.run(*EVALUATE)
    assert evaluated.success, failures(evaluated)

    def table(project: Project, stage: str, columns: list[str]) -> pd.DataFrame:
        return pd.read_parquet(str(project.output(stage, ".parquet")), columns=columns)

    for stage in ("sampled_examples", "filtered_qa"):
        columns = ["example_id", "split", "question", "answer"]
        pd.testing.assert_frame_equal(table(here, stage, columns), table(there, stage, columns))
    for split in ("train", "validation"):
        ours = here.output("training_jsonl", f"/{split}.jsonl").read_bytes()
        assert ours == there.output("training_jsonl", f"/{split}.jsonl").read_bytes()
    assert here.metadata("finetune_job")["fingerprint"] == there.metadata("finetune_job")["fingerprint"]
    told = ["example_id", "split", "role", "text", "predicted", "p_positive"]
    pd.testing.assert_frame_equal(table(here, "benchmark", told), table(there, "benchmark", told))
    assert there.made("champion") is here.made("champion")
    images = table(there, "filtered_qa", ["image"])["image"]
    assert all(str(image).startswith(f"{bucket_of(shared)}/outputs/cells/images/") for image in images)


@pytest.mark.timeout(6 * PATIENCE_S)
def test_pipelines_of_two_machines_that_ask_at_once_make_one_job(
    finished: Finished, shared: Cluster, tmp_path: Path
) -> None:
    one = shared.server("one")
    cells = Path(str(finished.project.root)).parent / "cells"
    project = elsewhere(finished, one.base_url, cells, bucket_of(shared))
    (tmp_path / "task.json").write_text(project.task.model_dump_json())
    arguments = [str(tmp_path / "task.json"), str(project.root)]
    assert at_once(PREPARE_IT, arguments, [tmp_path / "first", tmp_path / "second"]) == [("", 0)] * 2
    client = one.client()
    [job] = client.fine_tuning.jobs.list()
    assert job.id == json.loads(project.output("finetune_job", ".json").read_text())["job_id"]
    assert len(list(client.files.list(purpose="fine-tune"))) == 2
