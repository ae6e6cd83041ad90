"""What Dagster shows of a task beside its name: owners and tags, in the spelling that it takes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from finetune_assets.task.strict import Text

_OWNER = re.compile(r"team:[\w.-]+|[^@\s]+@[^@\s]+\.[^@\s]+", re.ASCII)
_TAG = re.compile(r"(?:[A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}", re.ASCII)


def _an_owner(found: str) -> str:
    if not _OWNER.fullmatch(found):
        raise ValueError("must be an e-mail address, or a team as team:NAME")
    return found


def _a_tag(found: str) -> str:
    if not _TAG.fullmatch(found):
        raise ValueError("must be letters, digits, `_`, `.` and `-`, at most 63, after a prefix and `/` or without one")
    if found.startswith(("dagster/", "finetune_assets/")):
        raise ValueError(f"must not begin with {found.partition('/')[0]}/, which is kept for the program's own tags")
    return found


def _a_value(found: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,63}", found):
        raise ValueError("must be letters, digits, `_`, `.` and `-`, at most 63")
    return found


Owner = Annotated[Text, AfterValidator(_an_owner)]
Tags = dict[Annotated[Text, AfterValidator(_a_tag)], Annotated[Text, AfterValidator(_a_value)]]
RunTags = dict[Annotated[str, Field(min_length=1)], Text]
"""Of runs and steps: a launcher or executor reads them, such as dagster-k8s/config or a concurrency key."""
