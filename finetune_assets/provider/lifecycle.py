"""How long a model will be there, and new jobs be taken.

The models endpoint is asked first; dated announcements in `lifecycle.yaml` say what it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import openai
import yaml

from finetune_assets.provider.client import Client, explained, is_lacking
from finetune_assets.training_file.target import base_of, known_as


@dataclass(frozen=True, slots=True)
class Ending:
    """The day from which on something is no longer there."""

    what: str
    day: date
    source: str
    instead: str = ""
    """What its provider names in its place, where it does."""

    def days_left(self, today: date) -> int:
        """Return the days from `today` to the end; negative once it is past."""
        return (self.day - today).days

    def in_words(self, today: date) -> str:
        """Say when it ends, or ended, and how many days that is from `today`."""
        days = self.days_left(today)
        plural = "" if abs(days) == 1 else "s"
        instead = f"; its provider names {self.instead} in its place" if self.instead else ""
        if days <= 0:
            return f"{self.what} ended on {self.day}, {-days} day{plural} ago ({self.source}){instead}"
        return f"{self.what} ends on {self.day}, in {days} day{plural} ({self.source}){instead}"


def shutdown(client: Client, provider: str, *models: str) -> Ending | None:
    """Return the first shutdown that is announced for any of the models or their bases, if there is one.

    Raises:
        ProviderError: the provider does not answer.
    """
    names = dict.fromkeys([*models, *map(base_of, models)])
    announced = [ending for name in names for ending in (_told(client, name), _listed(provider, name)) if ending]
    return min(announced, key=lambda ending: ending.day, default=None)


def new_jobs_end(provider: str) -> Ending | None:
    """Return from when on the provider takes no new fine-tuning jobs, if that is announced."""
    found = _announced().get(known_as(provider), {}).get("new_jobs_end")
    return found and Ending(f"the creation of fine-tuning jobs at {provider}", found["day"], found["source"])


def models(provider: str) -> list[str]:
    """List the models of a provider that can be trained and whose shutdown is announced."""
    announced = _announced().get(known_as(provider), {}).get("shutdowns", ())
    return [model for found in announced if found.get("trained", True) for model in found["models"]]


def announced(provider: str, model: str) -> Ending | None:
    """Return the shutdown of a model or of its base that was announced when this was written; nobody is asked."""
    return _listed(provider, model) or _listed(provider, base_of(model))


def training_end(client: Client, model: str) -> Ending | None:
    """Return from when on its provider trains a model no more, where its models endpoint says so, as Azure's does.

    Raises:
        ProviderError: the provider does not answer.
    """
    day = _day(_deprecation(_described(client, model)).get("fine_tune"))
    return day and Ending(f"the training of {model}", day, f"{client.base_url}models")


def _told(client: Client, model: str) -> Ending | None:
    found = _described(client, model)
    days = (getattr(found, "shutdown_date", None), _deprecation(found).get("inference"))
    day = min(filter(None, map(_day, days)), default=None)
    return day and Ending(model, day, f"{client.base_url}models")


def _described(client: Client, model: str) -> Any:
    with explained(client):
        try:
            return client.models.retrieve(model)
        except openai.APIStatusError as error:
            if is_lacking(error):
                return None
            raise


def _deprecation(model: Any) -> dict[str, Any]:
    """What Azure says of a model's end: the days of its training and of its answers."""
    said = getattr(model, "deprecation", None)
    return said if isinstance(said, dict) else {}


def _day(written: object) -> date | None:
    """Read a day as models endpoints write it: ISO 8601, or Unix seconds."""
    try:
        if isinstance(written, int | float) and written > 0:
            return datetime.fromtimestamp(written, UTC).date()
        return datetime.fromisoformat(written).date() if isinstance(written, str) else None
    except (ValueError, OverflowError, OSError):
        return None


def _listed(provider: str, model: str) -> Ending | None:
    for found in _announced().get(known_as(provider), {}).get("shutdowns", ()):
        if model in found["models"]:
            return Ending(model, found["day"], f"quoted from {found['source']}, compared on {found['read']}",
                          found.get("instead", ""))  # fmt: skip
    return None


@cache
def _announced() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(files("finetune_assets.provider").joinpath("lifecycle.yaml").read_text())
