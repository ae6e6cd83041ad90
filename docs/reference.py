"""The reference pages of the documentation, written from the code at every build, so that none can be out of date.

`mkdocs.yml` names this file as a hook. `pages` gives the Markdown of each page by its path; the tests ask it, too,
whether everything that a user can write is explained.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg
import typer

from finetune_assets.cli import app
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.pipeline.component import build_task
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.task import Task

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

Schema = dict[str, Any]
EXAMPLE = {
    "task": "task",
    "regions": "discover",
    "source": {"kind": "scored_images", "path": "table.csv"},
    "sampling": {"train": 0.5, "validation": 0.1, "calibration": 0.15, "test": 0.25},
    "answer": {"kind": "binary"},
    "base_model": "gpt-4o-2024-08-06",
    "provider": "openai",
    "budget_usd": 5,
    "rerun": {},
}
"""A task that has every check, sensor and schedule there is; its name stands for that of a user."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the reference pages to those that people wrote."""
    from mkdocs.structure.files import File

    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def pages() -> dict[str, str]:
    """Give the Markdown of each reference page by its path in the site."""
    return {
        "reference/task.md": "\n".join(_keys()),
        "reference/checks.md": "\n".join(_checks()),
        "reference/automation.md": "\n".join(_automation()),
        "reference/commands.md": "\n".join(_commands()),
        "reference/quarantine.md": "\n".join(_reasons()),
    }


def unexplained() -> list[str]:
    """List the keys, commands and options that say nothing of what they mean: `Model.key` or `command --option`."""
    found = []
    for name, schema in _models().items():
        keys = schema.get("properties", {}).items()
        found += [f"{name}.{key}" for key, facts in keys if not _meaning(facts, _definitions()) and key != "kind"]
    for words, command in _all_commands():
        found += [] if command.help else [words]
        found += [f"{words} {found.opts[-1]}" for found in command.params if not getattr(found, "help", None)]
    return sorted(found)


def _keys() -> Iterator[str]:
    yield "# Every key of a task\n"
    yield (
        "A task is one `defs.yaml` with `type: finetune_assets.pipeline.FineTuningTask` and, under `attributes`, the "
        "keys below. A key that is not listed here is refused.\n"
    )
    for name, schema in _models().items():
        kind = schema.get("properties", {}).get("kind", {}).get("const")
        yield f"## {_heading(name, kind)} {{ #{name.lower()} }}\n"
        yield f"{schema.get('description', '')}\n"
        for key, facts in schema.get("properties", {}).items():
            yield f"`{key}` · {_terms(schema, key, facts)}\n:   {_cell(_meaning(facts, _definitions()))}\n"


def _terms(schema: Schema, key: str, facts: Schema) -> str:
    """What a key takes, and whether it must be given or what holds without it."""
    if key in schema.get("required", []):
        return f"{_words(facts)} · **required**"
    default = _default(facts.get("default"))
    return f"{_words(facts)} · by default {default}" if default else _words(facts)


def _heading(name: str, kind: str | None) -> str:
    if kind is None:
        return name
    what = next((word.lower() for word in ("Answer", "Arm") if name.endswith(word)), "source")
    return f"{what} of kind {kind}"


def _models() -> dict[str, Schema]:
    """The schema of the task and, in the order in which they are met, of all that its keys take."""
    definitions = _definitions()
    met: dict[str, Schema] = {"Task": Task.model_json_schema()}
    waiting = [met["Task"]]
    while waiting:
        schema = waiting.pop(0)
        for name in _names_in(schema.get("properties", {})):
            if name not in met:
                met[name] = definitions[name]
                waiting.append(definitions[name])
    return met


@cache
def _definitions() -> dict[str, Schema]:
    return Task.model_json_schema()["$defs"]


def _names_in(schema: object) -> Iterator[str]:
    """The models that a schema refers to, in its order."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for part in schema.values():
            yield from _names_in(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _names_in(part)


def _meaning(facts: Schema, definitions: dict[str, Schema]) -> str:
    """What a key's own description says, else that of the model which it takes."""
    if "description" in facts:
        return facts["description"]
    named = list(_names_in(facts))
    return definitions[named[0]].get("description", "") if len(named) == 1 else ""


def _words(facts: Schema) -> str:
    """Say in words what a schema takes, models as links."""
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        return f"[{_heading(name, _kind_of(name))}](#{name.lower()})"
    for alternatives in ("oneOf", "anyOf"):
        if alternatives in facts:
            said = [_words(one) for one in facts[alternatives] if one.get("type") != "null"]
            return ", or ".join(dict.fromkeys(said))
    if "const" in facts or "enum" in facts:
        return ", ".join(f"`{value}`" for value in facts.get("enum", [facts.get("const")]))
    return _plain_words(facts)


def _plain_words(facts: Schema) -> str:
    kind = str(facts.get("type", "anything"))
    if kind == "array":
        return f"list of {_words(facts.get('items', {}))}"
    if kind == "object":
        held = facts.get("additionalProperties", {})
        return f"mapping of names to {_words(held)}" if isinstance(held, dict) else "mapping"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    bounds = [f"{word} {facts[limit]:g}" for limit, word in limits.items() if limit in facts]
    return " ".join([words, *bounds])


def _kind_of(name: str) -> str | None:
    return _definitions()[name].get("properties", {}).get("kind", {}).get("const")


def _default(value: object) -> str:
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "" if isinstance(value, dict) else f"`{value}`"


def _checks() -> Iterator[str]:
    yield "# Every check\n"
    yield (
        "A check that blocks ends its region's run where it fails; one that warns lets it go on. `checks: {NAME: off | "
        "warn | error}` in the task's YAML changes that; `error` blocks.\n"
    )
    yield "| check | of the asset | where it fails | passes where |\n|---|---|---|---|"
    for stage, spec in sorted(_check_specs(), key=lambda found: _STAGES.index(found[0])):
        yield f"| `{spec.name}` | `{stage}` | {'blocks' if spec.blocking else 'warns'} | {_cell(spec.description)} |"


_STAGES = ("sampled_examples", *PREPARE, *EVALUATE)


def _check_specs() -> Iterator[tuple[str, dg.AssetCheckSpec]]:
    """Each check's stage and what it asks; those of number answers too."""
    seen: set[str] = set()
    for answer in ({"kind": "binary"}, {"kind": "number"}):
        task = Task.model_validate(EXAMPLE | {"answer": answer})
        for asset in build_task(task).assets or ():
            if isinstance(asset, dg.AssetsDefinition):
                for spec in asset.check_specs:
                    if spec.name not in seen:
                        seen.add(spec.name)
                        yield spec.asset_key.path[-1], spec


def _automation() -> Iterator[str]:
    yield "# Assets, jobs, sensors and schedules\n"
    yield (
        "Of each task, whose name stands in front: `task_jobs` is `chest_findings_jobs` where the task is called so. "
        "Assets and jobs are partitioned by region.\n"
    )
    definitions = build_task(Task.model_validate(EXAMPLE))
    yield "## Assets\n\n| asset | what it is |\n|---|---|"
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    for asset in sorted(assets, key=lambda asset: _STAGES.index(asset.key.path[-1])):
        said = asset.descriptions_by_key.get(asset.key) or ""
        yield f"| `{asset.key.path[-1]}` | {_cell(said.partition(chr(10) * 2)[0])} |"
    yield "\n## Sensors and schedules\n\n| name | what it does | how often |\n|---|---|---|"
    for sensor in definitions.sensors or ():
        yield f"| `{sensor.name}` | {_cell(sensor.description)} | every {sensor.minimum_interval_seconds} s |"
    for schedule in definitions.schedules or ():
        if isinstance(schedule, dg.ScheduleDefinition):
            yield f"| `{schedule.name}` | {_cell(schedule.description)} | `{schedule.cron_schedule}`, UTC |"
    yield "\n## Jobs\n\n| job | what it makes |\n|---|---|"
    for name, stages in (("prepare", PREPARE), ("evaluate", EVALUATE)):
        yield f"| `task_{name}` | {', '.join(f'`{stage}`' for stage in stages)} |"


def _commands() -> Iterator[str]:
    yield "# Every command\n"
    yield "Exit codes: 0 all is well, 1 something was found or failed, 2 wrong use.\n"
    for words, command in _all_commands():
        yield f"## {words} {{ #{words.replace('finetune-assets ', '').replace(' ', '-')} }}\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
        yield from (_parameter(found) for found in command.params if found.name != "help")


def _all_commands() -> Iterator[tuple[str, Any]]:
    def below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        commands = getattr(command, "commands", {})
        if not commands or command.invoke_without_command:
            yield words, command
        for name, inner in commands.items():
            yield from below(f"{words} {name}", inner)

    yield from below("finetune-assets", typer.main.get_command(app))


def _parameter(found: Any) -> str:
    written = found.opts if found.param_type_name == "option" else [found.name.upper()]
    name = ", ".join(f"`{name}`" for name in written)
    default = "" if found.required or callable(found.default) else _default(found.default)
    terms = f"{name} · by default {default}" if default else name
    return f"{terms}\n:   {_cell(getattr(found, 'help', ''))}\n"


def _reasons() -> Iterator[str]:
    yield "# Why a row is set aside\n"
    yield (
        "Rows that cannot be used lie in the quarantine beside `filtered_qa`, each with its reason, the detail that "
        "shows it, its file and its line. Nothing is dropped silently.\n"
    )
    yield "| reason | what it says |\n|---|---|"
    said = _docstrings_of(Reason)
    yield from (f"| `{reason.value}` | {_cell(said.get(reason.name, ''))} |" for reason in Reason)


def _docstrings_of(kind: type) -> dict[str, str]:
    """What stands under each attribute of a class in its source."""
    [body] = [
        node.body for node in ast.parse(textwrap.dedent(inspect.getsource(kind))).body if isinstance(node, ast.ClassDef)
    ]
    found = {}
    for assigned, said in itertools.pairwise(body):
        if isinstance(assigned, ast.Assign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant):
            [target] = assigned.targets
            found[ast.unparse(target)] = inspect.cleandoc(str(said.value.value))
    return found


def _cell(text: str | None) -> str:
    """A text in one line, for a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")
