"""Who is compared in a region's benchmark, each asked as it was trained, and on nothing that it has seen."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from finetune_assets.asking.predictions import Asked
from finetune_assets.dataset.answer_reading import options_of
from finetune_assets.errors import RecordError
from finetune_assets.evaluation.prediction import Role
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.results.records import Trained
from finetune_assets.results.region import Region
from finetune_assets.results.standing import standing
from finetune_assets.results.trained_on import has_seen
from finetune_assets.task.answers import Answer, BinaryAnswer, CallAnswer, NumberAnswer, TextAnswer


def contenders(region: Region, model: Trained) -> dict[Role, Asked]:
    """Return the base model, the new model, and of the champion and the best one before those that can be compared.

    These are at the same provider and answer in words that mean the same, and the task's check `never_seen` does not
    leave out what has seen the test.
    """
    task, before = region.task, standing(region)
    models: dict[Role, Asked] = {"base": Asked(task.base_model, task), "fine_tuned": Asked(model.model, task)}
    earlier: dict[Role, Champion | None] = {"champion": before.champion, "best": before.best}
    for role, champion in earlier.items():
        if champion is None or champion.model in {asked.model for asked in models.values()}:
            continue
        words = _words(champion.as_trained(task).answer, task.answer)
        if words is not None and _is_there(champion, model):
            models[role] = Asked(champion.model, champion.as_trained(task), words)
    return models


def seen(region: Region, model: Trained, models: Mapping[Role, Asked], examples: pd.DataFrame) -> dict[str, int | None]:
    """Count the test examples that a model was trained on, or that belong to such; None where nobody noted them."""
    before = standing(region)
    files = {"fine_tuned": model.inputs.get("train")}
    files |= {
        role: champion.trained_on
        for role, champion in (("champion", before.champion), ("best", before.best))
        if champion
    }
    test = examples.loc[examples["split"] == "test"]
    found: dict[str, int | None] = {}
    for role in ("fine_tuned", "champion", "best"):
        if role in models:
            known = has_seen(region, files[role], test)
            found[models[role].model] = None if known is None else int(known.sum())
    return found


def without(models: Mapping[Role, Asked], seen: Mapping[str, int | None]) -> dict[Role, Asked]:
    """Leave out the earlier champions that have seen the test."""
    return {
        role: asked for role, asked in models.items() if role in ("base", "fine_tuned") or not seen.get(asked.model)
    }


def require_own_words(region: Region, examples: pd.DataFrame) -> None:
    """Refuse examples that are labelled in other words than the model was trained to answer in.

    Raises:
        RecordError: they are; the message says which word it was.
    """
    answer = region.task.answer
    if isinstance(answer, NumberAnswer | TextAnswer | CallAnswer):
        return
    strange = sorted(set(examples["answer"]) - set(options_of(answer)))
    if strange:
        raise RecordError(
            f"region {region.name}: the model was trained to answer {' or '.join(options_of(answer))}, and examples "
            f"are labelled {strange[0]!r} by now. Materialise the region from sampled_examples on, which trains it "
            "anew, or set `answer` back in the YAML and materialise sampled_examples to filtered_qa again"
        )


def _words(own: Answer, asked: Answer) -> dict[str, str] | None:
    """Return what a model's own words are called in the task's; None where they do not mean the same."""
    if own == asked:
        return {}
    if isinstance(own, BinaryAnswer) and isinstance(asked, BinaryAnswer):
        return {own.positive: asked.positive, own.negative: asked.negative}
    if own.kind != asked.kind or isinstance(own, CallAnswer) or isinstance(asked, CallAnswer):
        return None  # functions that differ are called otherwise
    if isinstance(own, NumberAnswer | TextAnswer) or isinstance(asked, NumberAnswer | TextAnswer):
        return {}
    return {} if options_of(own) == options_of(asked) else None


def _is_there(champion: Champion, model: Trained) -> bool:
    if champion.address is None:
        return champion.provider == model.provider.name
    return champion.address == model.provider.address
