"""What the machine computes with."""

from __future__ import annotations

import pytest

from finetune_assets.errors import PrecisionError
from finetune_assets.server.devices import (
    PRECISION,
    cores,
    cuda_devices,
    jobs_per_device,
    threads_per_process,
    wanted_precision,
)


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("", []),
        ("-1", []),
        ("0", ["0"]),
        ("2, 0", ["2", "0"]),
        ("0,-1,1", ["0"]),
        ("GPU-8a,MIG-7", ["GPU-8a", "MIG-7"]),
    ],
)
def test_the_gpus_are_those_that_cuda_would_see(
    monkeypatch: pytest.MonkeyPatch, visible: str, devices: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cuda_devices() == devices


def test_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert jobs_per_device() == min(2, cores())
    assert threads_per_process() == max(1, cores() // jobs_per_device())
    assert threads_per_process(jobs=1) == cores()
    assert threads_per_process(jobs=1000) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert jobs_per_device() == 1
    assert threads_per_process() == max(1, cores() // 2)


@pytest.mark.parametrize(
    ("said", "wanted"), [("", "auto"), ("auto", "auto"), ("float32", "float32"), ("bfloat16",) * 2]
)
def test_the_precision_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, said: str, wanted: str
) -> None:
    monkeypatch.setenv(PRECISION, said)
    assert wanted_precision() == wanted


def test_without_a_named_precision_the_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRECISION, raising=False)
    assert wanted_precision() == "auto"


@pytest.mark.parametrize("said", ["float16", "bf16", "Float32", " "])
def test_any_other_precision_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(PRECISION, said)
    with pytest.raises(PrecisionError, match=f"FINETUNE_ASSETS_DTYPE is '{said}'.* auto, float32 or bfloat16"):
        wanted_precision()
