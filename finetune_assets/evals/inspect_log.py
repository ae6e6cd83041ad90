"""A benchmark as logs of inspect_ai, one for each model: `inspect view` shows them, `read_eval_log` reads them.

Version 2 of its JSON format, as `inspect_ai.log.EvalLog` defines it (held to it by the tests, with 0.3.285). A score is
that of the deciding metric: C and I where answers are right or wrong, else a number. Requests that failed are wrong
answers here as there.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from finetune_assets import __version__
from finetune_assets.evals.benchmarked import Answered, Benchmarked
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.scoring import scoring_of

_SCORER = "finetune_assets/answer"
_PARTS = {"text": "text", "image_url": "image"}


def logs(found: Benchmarked) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each model's log with the name of its file, as inspect_ai names its own."""
    now = datetime.now(UTC).replace(microsecond=0)
    conversations = list(found.conversations())
    for answered in found.models:
        id_ = _id(found, answered)
        moment = now.isoformat().replace(":", "-")
        task = re.sub(r"[^\w-]+", "-", f"{found.task.task}-{found.region.name}-{answered.role}")
        yield f"{moment}_{task}_{id_}.json", _log(found, answered, conversations, id_, now)


def _id(found: Benchmarked, answered: Answered) -> str:
    """Name a model's answers to these examples: 22 letters and digits, the same ones every time."""
    told = "\n".join([found.judged.model, answered.role, answered.model, *sorted(found.judged.inputs.values())])
    return hashlib.sha256(told.encode()).hexdigest()[:22]


def _log(
    found: Benchmarked, answered: Answered, conversations: list[list[dict[str, Any]]], id_: str, now: datetime
) -> dict[str, Any]:
    task, n = f"{found.task.task}/{found.region.name}", len(answered.rows)
    ids = [row.example_id for row in answered.rows]
    usage = {answered.model: _usage(answered.rows)}
    samples = [
        _sample(found, row, score, conversation)
        for row, score, conversation in zip(answered.rows, answered.scores, conversations, strict=True)
    ]
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": id_,
            "run_id": id_,
            "created": now.isoformat(),
            "task": task,
            "task_id": id_,
            "task_version": 0,
            "dataset": {"name": task, "samples": n, "sample_ids": ids, "shuffled": False},
            "model": answered.model,
            **({"model_base_url": found.base_url} if found.base_url else {}),
            "config": {},
            "packages": {"finetune_assets": __version__},
            "metadata": {"role": answered.role, "metric": found.metric, "fingerprint": found.judged.task.fingerprint},
            "scorers": [{"name": _SCORER, "metrics": [{"name": "accuracy"}, {"name": "stderr"}]}],
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": {"temperature": 0}},
        "results": {"total_samples": n, "completed_samples": n, "scores": [_metrics(answered.scores)]},
        "stats": {"started_at": now.isoformat(), "completed_at": now.isoformat(), "model_usage": usage},
        "samples": samples,
    }


def _metrics(scores: list[float]) -> dict[str, Any]:
    n = len(scores)
    mean = math.fsum(scores) / n
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (n - 1) / n) if n > 1 else 0.0
    named = {name: {"name": name, "value": value} for name, value in (("accuracy", mean), ("stderr", spread))}
    return {"name": _SCORER, "scorer": _SCORER, "scored_samples": n, "unscored_samples": 0, "metrics": named}


def _usage(rows: list[Prediction]) -> dict[str, int]:
    asked, said = sum(row.prompt_tokens for row in rows), sum(row.completion_tokens for row in rows)
    return {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said}


def _sample(found: Benchmarked, row: Prediction, score: float, conversation: list[dict[str, Any]]) -> dict[str, Any]:
    asked = [_message(message) for message in conversation]
    said = {"role": "assistant", "content": row.text or "", "source": "generate", "model": row.model}
    choices = [{"message": said, "stop_reason": "max_tokens" if row.truncated else "stop"}]
    output = {"model": row.model, "choices": [] if row.error else choices, "usage": _usage([row])}
    options = list(scoring_of(found.task.answer).labels)
    return {
        "id": row.example_id,
        "epoch": 1,
        "input": asked,
        **({"choices": options} if options else {}),
        "target": row.truth,
        "messages": [*asked, *([] if row.error else [said])],
        "output": output | ({"error": row.error} if row.error else {}) | _seconds(row, "time"),
        "scores": {_SCORER: _score(found, row, score)},
        "metadata": {"group": row.group, **({"subgroup": row.subgroup} if row.subgroup else {})},
        "model_usage": {row.model: _usage([row])},
        **_seconds(row, "total_time"),
    }


def _seconds(row: Prediction, name: str) -> dict[str, float]:
    return {} if row.latency_s is None or math.isnan(row.latency_s) else {name: row.latency_s}


def _score(found: Benchmarked, row: Prediction, score: float) -> dict[str, Any]:
    right = scoring_of(found.task.answer, found.task.benchmark.metric).deciding.right_or_wrong
    known = {"p_positive": row.p_positive, "p_predicted": row.p_predicted, "p_truth": row.p_truth}
    return {
        "value": ("C" if score else "I") if right else score,
        "answer": row.predicted,
        "explanation": row.error or row.text,
        "metadata": {name: p for name, p in known.items() if p is not None and not math.isnan(p)},
    }


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return {"role": message["role"], "content": content}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    image = part["image_url"]
    return {"type": "image", "image": image["url"], "detail": image.get("detail", "auto")}
