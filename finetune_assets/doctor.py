"""What is installed, reachable and misconfigured: everything that a run needs, looked at before it is started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from upath import UPath

from finetune_assets.dataset.sources import regions_of
from finetune_assets.errors import FinetuneAssetsError, ProviderError
from finetune_assets.pipeline.resources import default_root
from finetune_assets.processes import our_command
from finetune_assets.provider import lifecycle
from finetune_assets.provider.client import connect, explained, is_gone
from finetune_assets.provider.local_server import HOME
from finetune_assets.running import running
from finetune_assets.server import base_models
from finetune_assets.task import Task, read_task, task_names
from finetune_assets.task.places import task_files

State = Literal["good", "warning", "bad"]
LIBRARIES = ("dagster", "openai", "torch", "transformers", "scikit-learn", "pandas")
LEAST_FREE_GB = 5
"""A demo with its models, images and answers takes about half of it."""
_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    words: str
    """What was found; where it is not good, also what to do."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Look at the installation, the places of files, every task and every provider in use."""
    yield _installed()
    yield _models()
    yield _disk()
    yield _outputs()
    providers: set[str] = set()
    for name in task_names():
        task, finding = _task(name)
        yield finding
        providers |= {task.provider} if task else set()
    for provider in sorted(providers):
        yield _provider(provider)


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


def _models() -> Finding:
    if (base_models.SHARE / base_models.TEXT_MODEL).exists():
        return Finding("base models", "good", f"in {base_models.SHARE}")
    words = "the bundled ones are not made yet; `finetune-assets serve` makes them at its first start"
    return Finding("base models", "warning", words)


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
    return Finding("outputs", "good", f"{root} can be written")


def _task(name: str) -> tuple[Task | None, Finding]:
    what = f"task {name}"
    try:
        task = read_task(name)
        regions = regions_of(task)
    except FinetuneAssetsError as error:
        return None, Finding(what, "bad", str(error))
    words = f"{len(regions)} regions, {task.base_model} at {task.provider}"
    if note := task_files()[name].note:
        return task, Finding(what, "warning", f"{words}; {note}")
    return task, Finding(what, "good", words)


def _provider(name: str) -> Finding:
    what = f"provider {name}"
    if name == "local" and running(HOME) is None:
        return Finding(
            what, "warning", f"it does not run here; `{our_command('ui')}` and `{our_command('serve')}` start it"
        )
    try:
        client = connect(name).with_options(timeout=_TIMEOUT_S, max_retries=0)
        with explained(client):
            client.models.list()
    except ProviderError as error:
        # A provider that has no list of models has answered all the same.
        if not is_gone(error):
            return Finding(what, "bad", str(error))
    if ending := lifecycle.new_jobs_end(name):
        return Finding(what, "warning", f"it answers; {ending.in_words(datetime.now(UTC).date())}")
    return Finding(what, "good", "it answers")
