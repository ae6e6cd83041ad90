"""Reads a Dagster component's `defs.yaml`: its type, and its attributes as a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from finetune_assets.task import faults, yaml_file
from finetune_assets.task.places import TYPE
from finetune_assets.task.yaml_file import Fault, YamlFile

_KEYS = ("type", "attributes", "template_vars_module", "requirements", "post_processing")
"""What Dagster takes beside each other in such a file."""
M = TypeVar("M", bound=BaseModel)


def read_attributes(path: Path, model: type[M], context: dict[str, Any]) -> M:
    """Read what a file says under `attributes`.

    Raises:
        TaskError: it cannot be read, or something in it is wrong; the message has a line for each fault, in the order
            of the file.
    """
    written = yaml_file.read(path)
    wrong = [*written.faults, *_around(written)]
    attributes = written.value.get("attributes") if isinstance(written.value, dict) else None
    if isinstance(attributes, dict):
        try:
            made = model.model_validate(attributes, context=context)
        except ValidationError as error:
            wrong = _with_the_empty(written, wrong + faults.of(error, written, model, ("attributes",)))
        else:
            if not (wrong := _with_the_empty(written, wrong)):
                return made
    raise yaml_file.refusal(path, [_without_attributes(one) for one in wrong])


def _with_the_empty(written: YamlFile, wrong: list[Fault]) -> list[Fault]:
    """Add the keys behind which nothing stands: YAML takes that for null, which nobody need have meant."""
    said = {one.key: one for one in wrong}
    for key, comment in written.empty.items():
        name = yaml_file.dotted(key)
        advice = "write one behind the colon, or take the line out"
        if comment:
            advice = f"what follows a # is a comment: put {comment!r} in quotes if it is the value"
        if name in said and said[name].words.endswith("got nothing"):
            said[name] = Fault(said[name].line, name, f"{said[name].words}; {advice}")
        elif not any(name == other or name.startswith((f"{other}.", f"{other}[")) for other in said):
            said[name] = written.fault(key, f"has no value; {advice}; `null` is none")
    return list(said.values())


def _around(written: YamlFile) -> list[Fault]:
    """Judge what stands around the attributes."""
    found = written.value
    if not isinstance(found, dict):
        what = "a list" if isinstance(found, list) else "a text"
        return [Fault(1, "", f"must be a mapping with `type: {TYPE}` and `attributes:`, found {what}")]
    wrong = [
        written.fault((key,), f"there is no such key{faults.nearest(key, _KEYS)}; a file has `type` and `attributes`, "
                              "and all that a task says stands indented under `attributes`")
        for key in found if key not in _KEYS
    ]  # fmt: skip
    kind = found.get("type")
    if kind != TYPE:
        said = f"is {kind!r}" if kind else "is missing"
        wrong.append(written.fault(("type",), f"{said}; a task is of `type: {TYPE}`"))
    if not isinstance(found.get("attributes"), dict):
        said = "is missing" if "attributes" not in found else "must be a mapping of `key: value`"
        wrong.append(written.fault(("attributes",), f"{said}; all that a task says stands indented under it"))
    return wrong


def _without_attributes(fault: Fault) -> Fault:
    """Name a key as the README does: `source.path`."""
    return Fault(fault.line, fault.key.removeprefix("attributes."), fault.words)
