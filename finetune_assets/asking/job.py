"""The job that a region's files are to be trained by."""

from __future__ import annotations

from collections.abc import Mapping

from finetune_assets.dataset.identity import ascii_name
from finetune_assets.provider import fine_tuning, months
from finetune_assets.provider.client import find_provider
from finetune_assets.provider.files import UploadedFile
from finetune_assets.task import Task
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, ScoreAnswer
from finetune_assets.training_file import answer_grader


def job_request(
    task: Task,
    region: str,
    uploaded: Mapping[str, UploadedFile],
    attempt: str = "",
    estimate_usd: float | None = None,
) -> fine_tuning.JobRequest:
    """Return what a region's job is asked for, wherever it is asked: the same request finds the same job again."""
    graded = task.method.type == "reinforcement"
    method = task.method
    if (
        graded
        and method.max_completion_tokens is None
        and isinstance(task.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer)
    ):
        method = method.model_copy(update={"max_completion_tokens": answer_grader.answer_tokens(task.answer)})
    return fine_tuning.JobRequest(
        model=task.base_model,
        training_file=uploaded["train"],
        validation_file=uploaded["validation"],
        method=method,
        grader=answer_grader.grader() if graded else None,
        suffix=f"{task.task}-{ascii_name(region)}"[: find_provider(task.provider).suffix_length],
        labels={"task": task.task, "region": region}
        | ({months.ESTIMATE: f"{estimate_usd:.4f}"} if estimate_usd is not None else {}),
        attempt=attempt,
        wandb=task.wandb,
        training_type=task.training_type,
    )
