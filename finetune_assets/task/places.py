"""Where the tasks' YAML files are: in folders of the user's own, and those that are shipped. What they say is not read.

A task is the folder `<folder>/<task>/` with its `defs.yaml`. The folders are those that `FINETUNE_ASSETS_TASKS` names,
`tasks` in the working directory, and the `defs` of a `dg` project there. A task of the user's hides a shipped one of
the same name, and says so; two of the user's that share a name are refused.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from finetune_assets.errors import TaskError

SHIPPED = Path(__file__).parents[1] / "defs"
OWN = Path("tasks")
"""Of the working directory."""
VARIABLE = "FINETUNE_ASSETS_TASKS"
"""Environment variable with more folders of tasks, parted as in PATH."""
FILE = "defs.yaml"


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
    if (project := _dg_folder(Path.cwd())) is not None:
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
    if folder is not None:
        return {path.parent.name: TaskFile(path.parent.name, path) for path in _files(folder)}
    shipped = task_files(SHIPPED)
    found = dict(shipped)
    project = _dg_folder(Path.cwd())
    for own in (path for folder in task_folders() for path in _files(folder)):
        name = own.parent.name
        # A `dg` project has components of other kinds, too.
        if own.parents[1] == project and "FineTuningTask" not in own.read_text("utf-8", errors="replace"):
            continue
        first = found.get(name)
        if first is None or first is shipped.get(name):
            found[name] = TaskFile(name, own, hidden=first.path if first else None)
        else:
            found[name] = TaskFile(name, first.path, twin=own)
    return dict(sorted(found.items()))


def _files(folder: Path) -> list[Path]:
    own = [folder / FILE] if (folder / FILE).is_file() else []
    return [path for path in (*own, *sorted(folder.glob(f"*/{FILE}"))) if not path.parent.name.startswith((".", "_"))]


def _dg_folder(root: Path) -> Path | None:
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
