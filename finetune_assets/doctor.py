"""What is installed, reachable and misconfigured: everything that a run needs, looked at before it is started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from upath import UPath

from finetune_assets import common_database
from finetune_assets.errors import BaseModelError, FeedbackDatabaseError, PrecisionError
from finetune_assets.preflight import provider, tasks
from finetune_assets.preflight.finding import Finding, State
from finetune_assets.provider.local_server import HOME
from finetune_assets.results.region import default_root
from finetune_assets.server import base_models, proofs
from finetune_assets.server.devices import PRECISION, wanted_precision
from finetune_assets.task import readable_tasks, task_names

LIBRARIES = ("dagster", "openai", "torch", "transformers", "scikit-learn", "pandas")
LEAST_FREE_GB = 5
"""A demo with its models, images and answers takes about half of it."""


def examine() -> Iterator[Finding]:
    """Look at the installation, the places of files, every task and every provider in use."""
    yield _installed()
    yield _precision()
    yield _models()
    yield from _configured_models()
    yield _disk()
    yield _outputs()
    yield from _common_database()
    for name in task_names():
        yield from tasks.glance(name)
    for name in sorted({task.provider for task in readable_tasks()}):
        yield provider.reach(name)[1]


def _installed() -> Finding:
    python = ".".join(map(str, sys.version_info[:3]))
    found = {name: _version(name) for name in LIBRARIES}
    if missing := [name for name, known in found.items() if known is None]:
        install = "pip install 'finetune_assets[local]'"
        words = f"Python {python}, without {', '.join(missing)}; `{install}` installs all that is needed"
        return Finding("installation", "bad", words)
    return Finding("installation", "good", f"Python {python}, {', '.join(f'{n} {v}' for n, v in found.items())}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _precision() -> Finding:
    """Say in which precision models compute here, and why."""
    try:
        wanted = wanted_precision()
    except PrecisionError as error:
        return Finding("precision", "bad", str(error))
    if wanted != "auto":
        return Finding("precision", "good", f"{wanted}, because {PRECISION} says so")
    if _version("torch") is None:
        return Finding("precision", "warning", "not known without torch; see installation")
    from finetune_assets.server.model.precision import device_and_dtype

    device, dtype = device_and_dtype()
    name = str(dtype).removeprefix("torch.")
    why = "the faster one on this processor" if device.type == "cpu" else "as on every GPU"
    return Finding("precision", "good", f"{name}, {why}; {PRECISION}=float32 or bfloat16 sets it")


def _models() -> Finding:
    if (base_models.SHARE / base_models.TEXT_MODEL).exists():
        return Finding("base models", "good", f"in {base_models.SHARE}")
    words = "the bundled ones are not made yet; `finetune-assets serve` makes them at its first start"
    return Finding("base models", "warning", words)


def _configured_models() -> Iterator[Finding]:
    """Say which of the local server's other models have passed its self-test."""
    try:
        known = proofs.proofs(HOME)
    except BaseModelError as error:
        yield Finding("local models", "bad", str(error))
        return
    said: dict[str, tuple[State, str]] = {
        "passed": ("good", "has passed the self-test on this machine"),
        "untried": ("warning", "not tried yet; `finetune-assets serve` tries it at its start"),
        "absent": ("warning", "not on this machine yet; it is fetched, and tried, when it is first asked for"),
    }
    for proof in known:
        refused: tuple[State, str] = ("bad", f"refused: {proof.reason}")
        if proof.state == "untrainable":
            refused = ("warning", f"answers, and takes no jobs: {proof.reason}")
        state, words = said.get(proof.state, refused)
        words += f"; {proof.reason}" if proof.state == "passed" and proof.reason else ""
        yield Finding(f"model {proof.name}", state, words)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    words = f"{free:.0f} GB are free in {Path.cwd()}"
    if free < LEAST_FREE_GB:
        return Finding("disk", "warning", f"{words}; make room for {LEAST_FREE_GB}")
    return Finding("disk", "good", words)


def _outputs() -> Finding:
    root = UPath(default_root())
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except Exception as error:  # noqa: BLE001 - each file system has errors of its own
        return Finding("outputs", "bad", f"{root} cannot be written ({error}); see FINETUNE_ASSETS_DATA")
    words = f"{root} can be written"
    if not isinstance(root, Path) and common_database.address() is None:
        alone = f"for one machine: two would pay for the same job, until {common_database.VARIABLE} names PostgreSQL"
        return Finding("outputs", "warning", f"{words}; {alone}")
    return Finding("outputs", "good", words)


def _common_database() -> Iterator[Finding]:
    """Say whether what machines have in common answers, where there is such a thing."""
    if common_database.address() is None:
        return
    try:
        with common_database.turn("doctor") as require:
            require()
    except FeedbackDatabaseError as error:
        yield Finding("common database", "bad", str(error))
        return
    yield Finding("common database", "good", "it answers, and gives turns")
