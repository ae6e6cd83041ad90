"""Where the tasks' YAML files are: in folders of the user's own, and those that are shipped.

A task is a folder `<task>/` with its `defs.yaml`, at any depth below a folder of tasks. These are those that
`FINETUNE_ASSETS_TASKS` names, `tasks` in the working directory, and the `defs` of a `dg` project there. As in Dagster,
a folder with a `defs.yaml` is one component: what lies below it is its own. Components of other types are left to
Dagster. A task of the user's hides a shipped one of the same name, and says so; two of the user's that share a name
are refused.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from finetune_assets.errors import TaskError

SHIPPED = Path(__file__).parents[1] / "defs"
OWN = Path("tasks")
"""Of the working directory."""
VARIABLE = "FINETUNE_ASSETS_TASKS"
"""Environment variable with more folders of tasks, parted as in PATH."""
FILE = "defs.yaml"
TYPE = "finetune_assets.pipeline.FineTuningTask"
_FILES = (FILE, "defs.yml")
"""Names that Dagster takes for such a file."""
_FOLDER = "dagster.DefsFolderComponent"
"""The type of a component that is nothing but a folder of others."""
MAX_DEPTH = 8
"""Folders within folders that are looked into; a task lies nearer."""
_TYPE_LINE = re.compile(r"^type\s*:\s*[\"']?([A-Za-z_][\w.]*)", re.MULTILINE)
_MAX_BYTES = 1024 * 1024
_ALIKE = 0.8
"""Of a type that is ours misspelt, and to be refused, rather than another's."""


@dataclass(frozen=True, slots=True)
class TaskFile:
    """The YAML file of one task."""

    name: str
    """The folder's, which `task` in the file repeats."""
    path: Path
    hidden: Path | None = None
    """The file of the shipped task that this one stands for."""
    twin: Path | None = None
    """Another file of the user's under the same name."""

    @property
    def note(self) -> str | None:
        """What a person ought to know of where it was found, or None."""
        return f"{self.path} is used, and not the shipped task of this name" if self.hidden else None


def task_folders() -> list[Path]:
    """List the user's folders of tasks, whatever they hold.

    Raises:
        TaskError: `FINETUNE_ASSETS_TASKS` names something that is no folder, or `pyproject.toml` cannot be read.
    """
    folders = [OWN.absolute()] if OWN.is_dir() else []
    if (project := dg_folder(Path.cwd())) is not None:
        folders.append(project)
    for named in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        folder = Path(named).expanduser().absolute()
        if not folder.is_dir():
            raise TaskError(f"{VARIABLE} names {named}, which is no folder; it holds a folder for each task")
        folders.append(folder)
    different = {folder.resolve(): folder for folder in reversed(folders)}
    different.pop(SHIPPED.resolve(), None)
    return list(reversed(different.values()))


def task_files(folder: Path | None = None) -> dict[str, TaskFile]:
    """Find the tasks of one folder, or all there are, by name in alphabetical order.

    Raises:
        TaskError: as `task_folders`.
    """
    shipped = _named(_files(SHIPPED)) if folder is None else {}
    own = _named(path for place in ([folder] if folder else task_folders()) for path in _files(place))
    hiding = {name: replace(task, hidden=shipped[name].path) for name, task in own.items() if name in shipped}
    return dict(sorted((shipped | own | hiding).items()))


def _named(paths: Iterable[Path]) -> dict[str, TaskFile]:
    found: dict[str, TaskFile] = {}
    # A folder that is named may lie within another one.
    for path in {path.resolve(): path for path in paths}.values():
        name = path.parent.name
        found[name] = replace(found[name], twin=path) if name in found else TaskFile(name, path)
    return found


def component_file(folder: Path) -> Path | None:
    """Return the file that makes a folder a component; None where it is none."""
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)


def is_task(path: Path) -> bool:
    """Say whether a component's file is a task's, or was meant for one."""
    said = _beginning(path)
    kinds = _TYPE_LINE.findall(said)
    if not kinds:
        # Nothing says what it is; beside other components it is Dagster's to say so.
        return "FineTuningTask" in said or not _is_of_a_project(path)
    return any(_alike(kind, TYPE) or _alike(kind.rpartition(".")[2], TYPE.rpartition(".")[2]) for kind in kinds)


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def _alike(found: str, wanted: str) -> bool:
    return SequenceMatcher(None, found.lower(), wanted.lower()).ratio() >= _ALIKE


def _is_of_a_project(path: Path) -> bool:
    project = dg_folder(Path.cwd())
    return project is not None and project in path.parents


def _files(folder: Path, depth: int = 0, seen: set[Path] | None = None) -> Iterator[Path]:
    """Yield the tasks' files in and below a folder, in alphabetical order, each once whatever links lead to it."""
    seen = set() if seen is None else seen
    if (real := folder.resolve()) in seen or depth > MAX_DEPTH:
        return
    seen.add(real)
    path = component_file(folder)
    if path is not None and is_task(path):
        yield path
    elif path is None or depth == 0 or _TYPE_LINE.findall(_beginning(path)) == [_FOLDER]:
        with os.scandir(folder) as found:  # which tells folders from thousands of files at no cost
            below = sorted(child.path for child in found if not child.name.startswith((".", "_")) and child.is_dir())
        for child in below:
            yield from _files(Path(child), depth + 1, seen)


def dg_folder(root: Path) -> Path | None:
    """Return the folder in which the `dg` project at `root` keeps its components; None where there is none."""
    for name, table in (("dg.toml", ()), ("pyproject.toml", ("tool", "dg"))):
        if not (file := root / name).is_file():
            continue
        try:
            settings = tomllib.loads(file.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TaskError(f"{file}: cannot be read ({error}); a `dg` project's tasks are found by it") from error
        for key in (*table, "project"):
            settings = settings.get(key, {})
        root_module = settings.get("root_module")
        if module := settings.get("defs_module") or (root_module and f"{root_module}.defs"):
            places = [start / Path(*module.split(".")) for start in (root / "src", root)]
            return next((place for place in places if place.is_dir()), None)
    return None
