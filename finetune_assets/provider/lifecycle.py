"""How long a model will be there, and new jobs be taken.

The models endpoint is asked first; dated announcements in `lifecycle.yaml` say what it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
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

    def days_left(self, today: date) -> int:
        """Return the days from `today` to the end; negative once it is past."""
        return (self.day - today).days

    def in_words(self, today: date) -> str:
        """Say when it ends, or ended, and how many days that is from `today`."""
        days = self.days_left(today)
        plural = "" if abs(days) == 1 else "s"
        if days <= 0:
            return f"{self.what} ended on {self.day}, {-days} day{plural} ago ({self.source})"
        return f"{self.what} ends on {self.day}, in {days} day{plural} ({self.source})"


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
    """List the models of a provider whose shutdown is announced."""
    return [
        model for found in _announced().get(known_as(provider), {}).get("shutdowns", ()) for model in found["models"]
    ]


def announced(provider: str, model: str) -> Ending | None:
    """Return the shutdown of a model or of its base that was announced when this was written; nobody is asked."""
    return _listed(provider, model) or _listed(provider, base_of(model))


def _told(client: Client, model: str) -> Ending | None:
    with explained(client):
        try:
            day = getattr(client.models.retrieve(model), "shutdown_date", None)
        except openai.APIStatusError as error:
            if is_lacking(error):
                return None
            raise
    try:
        return Ending(model, date.fromisoformat(day), f"{client.base_url}models") if isinstance(day, str) else None
    except ValueError:
        return None


def _listed(provider: str, model: str) -> Ending | None:
    for found in _announced().get(known_as(provider), {}).get("shutdowns", ()):
        if model in found["models"]:
            return Ending(model, found["day"], f"quoted from {found['source']}, compared on {found['read']}")
    return None


@cache
def _announced() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(files("finetune_assets.provider").joinpath("lifecycle.yaml").read_text())
