"""A better system prompt for the base model: written by a model that is shown its mistakes (GEPA, Agrawal et al. 2025).

Mistakes are those in the training split, and which prompt is the best is decided on the validation split; the
calibration and the test split are not looked at. Every answer and every proposal is in the answer cache, and the search
takes the same way again: one that was broken off goes on where it was, and asks nothing twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from finetune_assets.asking.predictions import Asked, predict
from finetune_assets.asking.spending import WRITTEN_TOKENS
from finetune_assets.errors import EvaluationError, ProviderError
from finetune_assets.evaluation.prediction import read_predictions
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.client import Client
from finetune_assets.provider.completions import Settings
from finetune_assets.task import Task
from finetune_assets.task.arms import OptimisedPromptArm

LOOKED_AT = 3
"""Training examples that each proposal is written from, and that it must answer better before it is tried on more."""
_CANDIDATES = 5
"""Prompts, the first among them, for which a search can pay to have the validation split answered."""
_FEWEST = 2 * LOOKED_AT
"""Examples of either split."""


@dataclass(frozen=True, slots=True)
class FoundPrompt:
    """What a search has come to."""

    system: str
    before: float
    """Mean score of the task's own prompt on the validation examples; 1 is the best."""
    after: float
    """That of the one that was found; the same where none was better."""
    n_validation: int


def require_gepa() -> None:
    """Make sure that the search can be made.

    Raises:
        EvaluationError: the package is missing.
    """
    try:
        import gepa  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise EvaluationError(
            "the package gepa is missing; `pip install 'finetune_assets[prompts]'` installs it"
        ) from None


def search(
    asked: tuple[Client, Task],
    reflecting: tuple[Client, str],
    arm: OptimisedPromptArm,
    examples: pd.DataFrame,
    cache: AnswerCache,
    say: Callable[[str], None],
) -> FoundPrompt:
    """Search for the system prompt with which the base model answers best.

    Args:
        asked: The provider of the base model, and the task as it is asked there.
        reflecting: The provider of the model that writes proposals, and that model.
        arm: How much the search may ask.
        examples: Rows of `filtered_qa` of the training and the validation split.
        cache: Where answers and proposals are kept.
        say: Is told what may be asked, before it is, and what was found.

    Raises:
        EvaluationError: gepa is missing, there are too few examples, or they have system messages of their own.
        ProviderError: a provider does not answer, or refuses every question.
    """
    require_gepa()
    import gepa  # pyright: ignore[reportMissingImports]

    client, task = asked
    if "system" in examples and any(isinstance(own, str) for own in examples["system"]):
        raise EvaluationError("its examples have system messages of their own, which stand in the place of the prompt")
    train, validation = (_drawn(examples, split, arm.answers) for split in ("train", "validation"))
    if min(len(train), len(validation)) < _FEWEST:
        found = f"{len(train)} and {len(validation)}"
        raise EvaluationError(f"optimised_prompt needs {_FEWEST} training and validation examples each, got {found}")
    say(
        f"a prompt is searched for with at most {arm.answers:,} answers of {task.base_model}, to {len(train):,} "
        f"training and {len(validation):,} validation examples, and {arm.proposals:,} proposals of {reflecting[1]}"
    )
    answering = _Answering(client, task, cache)
    writing = _Writing(*reflecting, cache)

    def is_spent(_state: object) -> bool:
        next_round = 2 * LOOKED_AT + len(validation)
        return answering.n_asked + next_round > arm.answers or writing.n_written >= arm.proposals

    made: Any = gepa.optimize(
        {_PART: task.prompt.system},
        train["example_id"].tolist(),
        validation["example_id"].tolist(),
        adapter=answering.about(pd.concat([train, validation])),
        reflection_lm=writing,
        reflection_minibatch_size=LOOKED_AT,
        stop_callbacks=[is_spent],
        logger=_Silent(),
        seed=0,
    )
    scores: Sequence[float] = made.val_aggregate_scores
    result = FoundPrompt(made.best_candidate[_PART], scores[0], scores[made.best_idx], len(validation))
    say(
        f"of {len(scores):,} prompts the best has a score of {result.after:.3f} on {result.n_validation:,} validation "
        f"examples, and the task's own {result.before:.3f}"
    )
    return result


_PART = "system prompt"


@dataclass
class _Answering:
    """Has the base model answer under a prompt, as GEPA asks for it (its `GEPAAdapter`)."""

    client: Client
    task: Task
    cache: AnswerCache
    n_asked: int = 0
    """Answers, those among them that were known."""
    examples: pd.DataFrame = field(default_factory=pd.DataFrame)
    propose_new_texts: None = None

    def about(self, examples: pd.DataFrame) -> _Answering:
        """Answer questions of these examples, by their ids."""
        self.examples = examples.set_index("example_id", drop=False)
        return self

    def evaluate(self, batch: list[str], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """Ask under a prompt, and score the answers."""
        from gepa.core.adapter import EvaluationBatch  # pyright: ignore[reportMissingImports]

        self.n_asked += len(batch)
        prompt = self.task.prompt.model_copy(update={"system": candidate[_PART]})
        asked = Asked(self.task.base_model, self.task.model_copy(update={"prompt": prompt}))
        once = list(dict.fromkeys(batch))  # a round may hold an example twice
        table = predict(self.client, asked, self.examples.loc[once], "base", self.cache, lambda _said: None)
        rows = read_predictions(table, str(table["split"].iloc[0]))
        scoring = scoring_of(self.task.answer, self.task.benchmark.metric)
        scores = scoring.decisive(scoring.score(rows)).tolist()
        told = {
            row.example_id: {"Question": question, "Answer": row.text or "", "Right answer": row.truth, "Score": score}
            for question, row, score in zip(table["question"], rows, scores, strict=True)
        }
        return EvaluationBatch(
            outputs=[None] * len(batch),
            scores=[told[name]["Score"] for name in batch],
            trajectories=[told[name] for name in batch] if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Say what the model that writes is shown."""
        del candidate  # under which it was asked
        shown: list[dict[str, Any]] = eval_batch.trajectories
        return dict.fromkeys(components_to_update, shown)


@dataclass
class _Writing:
    """Has a model write a proposal."""

    client: Client
    model: str
    cache: AnswerCache
    n_written: int = 0

    def __call__(self, prompt: Any) -> str:
        """Ask for one."""
        self.n_written += 1
        settings = Settings(self.model, WRITTEN_TOKENS, 0, ask="completions")
        messages = [{"role": "user", "content": prompt if isinstance(prompt, str) else json.dumps(prompt)}]
        (reply,) = ask_all(self.client, settings, [messages], cache=self.cache, total=1, say=lambda _said: None)
        if reply.text is None:
            raise ProviderError(f"{self.model} writes no prompt: {reply.error}")
        return reply.text


class _Silent:
    """What GEPA tells itself of, prompts and examples in full, is in no log."""

    def log(self, message: str) -> None:
        """Forget it."""


def _drawn(examples: pd.DataFrame, split: str, answers: int) -> pd.DataFrame:
    """Examples of a split, drawn by hash where they are more than the search can pay for several times."""
    found = examples.loc[examples["split"] == split]
    order = sorted(found["example_id"], key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    chosen = set(order[: max(_FEWEST, answers // _CANDIDATES)])
    return found.loc[found["example_id"].isin(chosen)].reset_index(drop=True)
