"""From what pydantic objects to in a task to sentences for whoever wrote its YAML file.

Each names the key as it stands in the file, what was found, what may stand there, and the nearest spelling.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from finetune_assets.task.yaml_file import Fault, KeyPath, YamlFile, dotted

_MAX_SHOWN = 60
"""Characters of a value that a message repeats."""


def nearest(found: object, known: Sequence[str]) -> str:
    """Return ` (did you mean x?)` where what was found is nearly one of the known or names one, else an empty text."""
    by_lower = {name.lower(): name for name in known}
    words = re.split(r"[\W_]+", str(found).lower())
    close = get_close_matches(str(found).lower(), by_lower, 1, 0.6) or [word for word in words if word in by_lower]
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""


def of(error: ValidationError, written: YamlFile, model: type[BaseModel], above: KeyPath) -> list[Fault]:
    """Say what is wrong in the part of a file below the key `above`, which was to be a `model`."""
    by_key: dict[KeyPath, list[str]] = {}
    for one in error.errors():
        place = _Place.find(one["loc"], model)
        key = (*above, *place.key, *_named_within(one, place))
        words = _words(one, place, _shown(one["input"], key, written))
        named = re.escape(dotted(key[len(above) :] or key[-1:]))
        words = re.sub(rf"^(?:{named}|{re.escape(str(key[-1]))})(?::| (?!and )) ?", "", words)
        by_key.setdefault(key, []).append(words)
    return [written.fault(key, _together(words)) for key, words in by_key.items()]


def _named_within(error: ErrorDetails, place: _Place) -> KeyPath:
    """Name the key inside of a mapping that an error of the mapping is about."""
    if error["type"].startswith("union_tag"):
        return ("kind",)
    if error["type"] != "value_error" or not _is_model(place.kind):
        return ()
    said = re.match(r"[\w.]*\w", str(error.get("ctx", {})["error"]))
    named: list[str] = []
    kinds = [place.kind]
    for part in said[0].split(".") if said else []:
        if not (kinds := [member for kind in kinds for member in _members(kind)
                          if _is_model(member) and part in member.model_fields]):  # fmt: skip
            break
        named.append(part)
        kinds = [kind.model_fields[part].annotation for kind in kinds]
    return tuple(named)


def _together(words: list[str]) -> str:
    """One sentence of what each kind that a value may be of objects to: `must be A or B, got C`."""
    if len(words) == 1 or not all(one.startswith("must be ") and ", got " in one for one in words):
        return "; ".join(dict.fromkeys(words))
    wanted = dict.fromkeys(one.removeprefix("must be ").rpartition(", got ")[0] for one in words)
    if "a number" in wanted:
        wanted.pop("a whole number", None)
    return f"must be {' or '.join(wanted)}, got {words[0].rpartition(', got ')[2]}"


class _Place:
    """Where an error is: its key in the file, and the type of what may stand there."""

    def __init__(self, key: KeyPath, kind: Any, holder: type[BaseModel] | None) -> None:
        self.key = key
        self.kind = kind
        self.holder = holder
        """The model that the last key is one of."""

    @classmethod
    def find(cls, loc: tuple[int | str, ...], model: type[BaseModel]) -> _Place:
        """Follow an error's location, which names the chosen member of a union beside the keys of the file."""
        key: list[int | str] = []
        kind, holder = model, None
        for part in loc:
            members = _members(kind)
            if len(members) > 1:
                kind = next((member for member in members if _is_called(member, part)), Any)
                continue
            kind = members[0]
            if part == "[key]":  # of a mapping's key, which is the one before
                continue
            key.append(part)
            holder = _plain(kind) if _is_model(_plain(kind)) else None
            kind = _below(kind, part)
        return cls(tuple(key), kind, holder)


def _members(kind: Any) -> list[Any]:
    """List the types that a value may be of, without None."""
    if get_origin(kind) in (Union, types.UnionType):
        return [found for member in get_args(kind) for found in _members(member) if found is not type(None)]
    if get_origin(kind) is Annotated and len(_members(get_args(kind)[0])) > 1:
        return _members(get_args(kind)[0])
    return [kind]


def _is_called(member: Any, name: int | str) -> bool:
    """Whether a location calls this member of a union so: by its tag, its `kind`, or its class."""
    if get_origin(member) is Annotated:
        tags = [extra.tag for extra in get_args(member)[1:] if isinstance(extra, Tag)]
        return name in tags or _is_called(get_args(member)[0], name)
    return _is_model(member) and (name in _discriminating(member) or name == member.__name__)


def _discriminating(model: type[BaseModel]) -> tuple[Any, ...]:
    """What the key `kind` of a model may be, by which it is told from others."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _below(kind: Any, part: int | str) -> Any:
    """Return the type of what stands under a key or at a place of a list."""
    if get_origin(kind) is Annotated:
        return _below(get_args(kind)[0], part)
    if _is_model(kind):
        field = kind.model_fields.get(part)
        return field.annotation if field else Any
    arguments = get_args(kind)
    if get_origin(kind) is tuple and isinstance(part, int) and part < len(arguments):
        return arguments[part]
    return arguments[-1] if get_origin(kind) in (list, dict, Mapping, Sequence) else Any


def _words(error: ErrorDetails, place: _Place, shown: str) -> str:
    """Say what is wrong with a value, which stands as `shown` in the file."""
    found, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = list(place.holder.model_fields) if place.holder else []
            if found is None and str(place.key[-1]).isdigit():
                return (
                    "there is no such key: a comma begins the next key here; write a number with a point, such as 0.5"
                )
            return f"there is no such key{nearest(place.key[-1], known)}; those there are: {', '.join(known)}"
        case "missing":
            return f"is missing{_what_to_write(place)}"
        case "union_tag_not_found":
            return f"is missing; it is one of {', '.join(_kinds(place.kind))}"
        case "union_tag_invalid":
            return _one_of(context["tag"], _kinds(place.kind), repr(context["tag"]))
        case "literal_error":
            known = [str(value) for value in _literals(place.kind)]
            return _one_of(found, known or [context["expected"].strip("'")], shown)
        case "value_error":
            said = str(context["error"])
            return said if isinstance(found, dict | list) or ", got " in said else f"{said}, got {shown}"
        case "model_attributes_type" | "model_type" | "list_type" | "string_type" as kind:
            return f"{_WANTED[kind]}, got {shown}{_meant(found, place, shown)}"
        case kind:
            wanted = _WANTED.get(kind, error["msg"]).format(**context)
            return f"{wanted}, got {shown}{_as_a_number(found, kind, context)}"


_QUANTITY = re.compile(r"\D*?(?P<number>[+-]?\d+(?:[.,]\d+)?)\s*(?P<percent>%)?\D*")


def _as_a_number(found: object, kind: str, context: Mapping[str, Any]) -> str:
    """Show how a number is written that stands with its unit, with a decimal comma, or in percent."""
    if kind.startswith("less_than") and isinstance(found, int | float):
        least = context.get("lt", context.get("le"))
        return f"; {found:g} % is {found / 100:g}" if least == 1 and 1 < found <= 100 else ""
    match = _QUANTITY.fullmatch(found) if isinstance(found, str) and kind.startswith(("float_", "int_")) else None
    if match is None:
        return ""
    number = float(match["number"].replace(",", "."))
    if match["percent"]:
        return f"; write {number / 100:g} for {number:g} %"
    return f"; write {number:g}, the number alone"


def _one_of(found: object, known: Sequence[str], shown: str) -> str:
    known = [name if any(map(str.isalnum, name)) else f'"{name}"' for name in known]
    choice = f"one of {', '.join(known)}" if len(known) > 2 else " or ".join(known)
    if isinstance(found, bool):
        return f"must be {choice}, got {shown}{_in_quotes(found, shown)}"
    return f"must be {choice}, got {shown}{nearest(found, known)}"


_WANTED = {
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must be lower-case letters, digits and underscores, and begin with a letter",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list, such as [0.4, 0.6]",
    "dict_type": "must be a mapping of `key: value`",
    "model_type": "must be a mapping of `key: value`",
    "model_attributes_type": "must be a mapping of `key: value`",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}
"""What is asked for where pydantic reports an error of this type."""


def _what_to_write(place: _Place) -> str:
    name = place.key[-1]
    if kinds := _kinds(place.kind):
        return f"; write `{name}: {{kind: ...}}`, where kind is one of {', '.join(kinds)}"
    if choices := _literals(place.kind):
        if any(get_origin(_plain(member)) is list for member in _members(place.kind)):
            return f"; write `{name}: [...]` or `{name}: {choices[0]}`"
        return f"; write `{name}:` and one of {', '.join(map(str, choices))}"
    above = [part for part in place.key[:-1] if isinstance(part, str)]
    return f"; write `{name}: ...`" + (f" in `{above[-1]}`" if above else "")


def _kinds(kind: Any) -> list[str]:
    """List what `kind` may be where a type is one of several models."""
    models = [model for member in _members(kind) if _is_model(model := _plain(member))]
    return [str(value) for model in models for value in _discriminating(model)] if len(models) > 1 else []


def _literals(kind: Any) -> list[Any]:
    return list(dict.fromkeys(value for member in _members(kind) for value in _values(member)))


def _plain(kind: Any) -> Any:
    """Return a type without what is noted about it."""
    return _plain(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def _values(member: Any) -> Iterator[Any]:
    if get_origin(member) is Annotated:
        yield from _values(get_args(member)[0])
    elif get_origin(member) is Literal:
        yield from get_args(member)


def _shown(found: object, key: KeyPath, written: YamlFile) -> str:
    """What stands in the file, in its own spelling; a whole block is named by what it is."""
    if isinstance(found, dict):
        return f"a mapping with {', '.join(map(str, found))}"[:_MAX_SHOWN] if found else "an empty mapping"
    if found is None:
        return "nothing"
    spelling = written.words.get(key)
    text = repr(found) if spelling is None or spelling == found else spelling
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _meant(found: object, place: _Place, shown: str) -> str:
    """Show how a value is written that was meant for a text, a list or a mapping."""
    wants_list = any(get_origin(_plain(member)) is list for member in _members(place.kind))
    if wants_list and found is not None:
        return (
            f"; write [{', '.join(map(str, found))}]"
            if isinstance(found, dict)
            else f"; write [{shown.strip(chr(39))}]"
        )
    if found in (kinds := _kinds(place.kind)):
        return f"; write {{kind: {found}}}"
    if kinds:
        return f"; write {{kind: ...}}, where kind is one of {', '.join(kinds)}"
    models = [member for member in _members(place.kind) if _is_model(member)]
    if models:
        plainly = ", written without dashes and brackets" if isinstance(found, list) else ""
        return f"; its keys are {', '.join(models[0].model_fields)}{plainly}"
    return "" if isinstance(found, str) else _in_quotes(found, shown)


def _in_quotes(found: object, shown: str) -> str:
    """What to do about a value that YAML does not take for the text it was meant to be."""
    if isinstance(found, dict) and len(found) == 1 and next(iter(found.values())) is None:
        return f'; put it in quotes: "{{{next(iter(found))}}}"'
    if isinstance(found, bool):
        return f'; YAML reads it as {str(found).lower()}: put it in quotes, "{shown}"'
    return f'; put it in quotes: "{shown}"' if isinstance(found, int | float) else ""
