"""What a worker publishes of its training."""

from __future__ import annotations

import math

from finetune_assets.server.jobs.report import published, result_csv
from finetune_assets.server.training.watcher import Progress


def test_the_result_file_leaves_empty_what_was_not_measured() -> None:
    metrics = [
        {"step": 1, "total_steps": 2, "train_loss": 1.5234712, "train_mean_token_accuracy": 0.0},
        {"step": 2, "total_steps": 2, "train_loss": 0.5, "train_mean_token_accuracy": 1.0, "valid_loss": 0.25,
         "valid_mean_token_accuracy": 0.75, "full_valid_loss": 0.2},
    ]  # fmt: skip
    assert result_csv(metrics) == (
        b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.52347,0.0,,\n2,0.5,1.0,0.25,0.75\n"
    )


def test_published_metrics_leave_out_what_was_not_measured_or_is_no_number() -> None:
    progress = Progress(
        step=1, total_steps=2, epoch=1, train_loss=0.5, train_accuracy=1.0, trained_tokens=9, valid_loss=math.nan
    )
    assert published(progress) == {"step": 1, "total_steps": 2, "train_loss": 0.5, "train_mean_token_accuracy": 1.0}
