"""One task from end to end: every finding names the file, line and key that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from finetune_assets.errors import SourceError, TaskError, TaskFileError
from finetune_assets.preflight import examples, names, provider
from finetune_assets.preflight.finding import Finding, Remark
from finetune_assets.task import Task, read_task, yaml_file
from finetune_assets.task.places import task_files


def glance(name: str) -> Iterator[Finding]:
    """Look at one task's YAML and at what it names; no more than the first records are read, and nobody is asked."""
    task, found = _read(name)
    yield from found
    if task is not None:
        yield from _named(name, task, list(names.remarks(task)))


def check(name: str, regions: Iterable[str] = (), watch: examples.Watch = examples.silent) -> Iterator[Finding]:
    """Look at one task as a whole: its data is read, and its provider asked.

    Args:
        name: The task.
        regions: Only these are looked at; by default all, up to `examples.MAX_REGIONS`.
        watch: Told what is being looked at, for whoever waits.
    """
    task, found = _read(name)
    yield from found
    if task is None:
        return
    remarks = list(names.remarks(task))
    yield from _named(name, task, remarks)
    yield from provider.findings(task)
    if not any(remark.state == "bad" and remark.key[0] == "source" for remark in remarks):
        yield from _data(name, task, list(regions), watch)


def _data(name: str, task: Task, wanted: list[str], watch: examples.Watch) -> Iterator[Finding]:
    """Look at the regions of a task."""
    try:
        found = examples.regions(task, watch)
    except SourceError as error:
        yield from _located(task_files()[name].path, [names.refused(task, error)])
        return
    yield from _located(task_files()[name].path, examples.region_remarks(task, found))
    wanted = wanted or [region for region in examples.asked(task, found) if region in found]
    looked_at = 0
    for region in wanted[: examples.MAX_REGIONS]:
        found_here = list(examples.findings(task, region, watch))
        yield from found_here
        looked_at += 1
        # Of a column that was not meant for regions each value is one, and the same would be said of all of them.
        if len(wanted) > examples.MAX_REGIONS and all(finding.state != "good" for finding in found_here):
            break
    if rest := wanted[looked_at:]:
        words = f"{len(rest)} more regions were not looked at ({', '.join(rest[:5])}, ...); --region looks at one"
        yield Finding(f"task {name}", "warning", words)


def require_names(path: Path, task: Task, *, open_data: bool) -> None:
    """Refuse a task that names what is not there.

    Args:
        path: The task's YAML.
        task: What it says.
        open_data: Whether to look at models, files and columns too, not only at what the code itself knows.

    Raises:
        TaskError: a line for each such key.
    """
    remarks = names.remarks(task) if open_data else names.unknown_checks(task)
    if bad := [remark for remark in remarks if remark.state == "bad"]:
        raise TaskFileError([finding.words for finding in _located(path, bad)])


def _read(name: str) -> tuple[Task | None, list[Finding]]:
    what = f"task {name}"
    try:
        task = read_task(name)
        note = task_files()[name].note
    except TaskFileError as error:
        return None, [Finding(what, "bad", fault) for fault in error.faults]
    except TaskError as error:
        return None, [Finding(what, "bad", str(error))]
    return task, [Finding(what, "warning", note)] if note else []


def _named(name: str, task: Task, remarks: list[Remark]) -> Iterator[Finding]:
    yield from _located(task_files()[name].path, remarks)
    if not any(remark.state == "bad" for remark in remarks):
        yield Finding(f"task {name}", "good", f"{_regions(task)}, {task.base_model} at {task.provider}")


def _regions(task: Task) -> str:
    if task.regions == "discover":
        return "regions as in the data"
    return f"{len(task.regions)} region{'s' if len(task.regions) > 1 else ''}"


def _located(path: Path, remarks: Iterable[Remark]) -> Iterator[Finding]:
    """Put file, line and key before each remark about the YAML."""
    written = yaml_file.read(path)
    for remark in remarks:
        fault = written.fault(("attributes", *remark.key), remark.words)
        where = f"{path}:{fault.line}: {yaml_file.dotted(remark.key)}"
        yield Finding(f"task {path.parent.name}", remark.state, f"{where}: {fault.words}")
