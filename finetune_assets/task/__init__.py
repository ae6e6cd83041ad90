"""A task: everything that one `defs.yaml` says. Nothing here reads data or talks to anyone.

Unknown keys and wrong types are refused with the name of the field, so that a typing error
in a YAML file cannot silently change what is trained.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from finetune_assets.errors import TaskError
from finetune_assets.task import yaml_file
from finetune_assets.task.all_sources import Source
from finetune_assets.task.annotations import DrawnObjects
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, ScoreAnswer
from finetune_assets.task.arms import unfit
from finetune_assets.task.component_file import read_attributes
from finetune_assets.task.costs import OTHERS, Budget, Costs, Prices, Usd
from finetune_assets.task.in_use import InUse
from finetune_assets.task.judging import DECIDING, Benchmark, Promotion, PromotionRule
from finetune_assets.task.labels import Owner, RunTags, Tags
from finetune_assets.task.notify import Notify
from finetune_assets.task.places import task_files
from finetune_assets.task.provider import Deployment, Method, ProviderName, Wandb
from finetune_assets.task.rerun import Rerun
from finetune_assets.task.review import Review
from finetune_assets.task.sources import (
    Columns,
    DiamondsSource,
    ElpvSource,
    GeneratedSource,
    Name,
    ScienceFactsSource,
    ScoredImagesSource,
    Split,
    Tables,
    columns_in,
    texts_of,
)
from finetune_assets.task.strict import Strict

TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""Dagster's jobs and sensors are named after it, and allow no other characters."""
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")
HELD_OUT: tuple[Split, Split] = ("calibration", "test")
"""The splits that judge models, and that none has seen."""


class Sampling(Strict):
    """How much of a region goes to each split: shares of the region (0 to 1), or counts of examples (integers).

    `train` and `validation` are sent to the provider, `calibration` fits the calibrator, `test` judges everything.
    """

    train: int | float = Field(gt=0, description="The model learns from these.")
    validation: int | float = Field(gt=0, description="Their loss shows when learning turns into memorising.")
    calibration: int | float = Field(gt=0, description="These fit what turns scores into probabilities.")
    test: int | float = Field(gt=0, description="These judge everything, and nothing else sees them.")
    seed: int = 42
    """Another seed draws other splits."""
    stratify: bool = False
    """Whether each answer is shared out by itself, so that no split has more of one by chance (shares; counts always
    keep the proportions). What was drawn before stays where it is; groups stay whole."""

    @property
    def amounts(self) -> dict[Split, int | float]:
        """Share or count of each split, in the order of `SPLITS`."""
        return {split: getattr(self, split) for split in SPLITS}

    @property
    def by_count(self) -> bool:
        """Whether the amounts are counts of examples rather than shares."""
        return all(isinstance(amount, int) for amount in self.amounts.values())

    @model_validator(mode="after")
    def _shares_or_counts(self) -> Sampling:
        if not self.by_count and (total := sum(self.amounts.values())) > 1 + 1e-9:
            advice = "50 % is 0.5; use whole numbers throughout for counts"
            raise ValueError(f"shares must add up to at most 1, got {total:g}; {advice}")
        if self.by_count and self.stratify:
            raise ValueError("stratify is for shares: counts keep the proportions of the answers already; leave it out")
        return self


class Shot(Strict):
    """One question with its answer that every prompt shows the model before it asks (few-shot)."""

    question: str = Field(min_length=1, description="What is asked.")
    answer: str = Field(min_length=1, description="What is answered, in the task's own words.")


class Prompt(Strict):
    """What every example is wrapped in, in training and ever after. `{question}` is filled from the example."""

    system: str = ""
    """The system message; an example's own takes its place."""
    user: str = "{question}"
    """The user's message; it must hold `{question}`."""
    shots: list[Shot] = Field(default=[], description="Questions with their answers that every prompt shows first.")
    detail: Literal["low", "high", "auto"] = Field(
        default="low",
        description="How closely images are looked at: low is 512 pixels and 85 tokens, high up to 2,048 x 768 pixels "
        "and several times the tokens, auto as the provider likes.",
    )

    @model_validator(mode="after")
    def _user_asks_the_question(self) -> Prompt:
        if "{question}" not in self.user:
            raise ValueError('user must contain "{question}"')
        return self


def _a_language(code: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}", code):
        raise ValueError("must be the code of a language (ISO 639-1), such as de for German")
    return code


class Filtering(Strict):
    """What the QA filter looks for beyond what is plainly broken. Findings go to the quarantine, each with a reason."""

    doubtful: Literal["quarantine", "keep"] = Field(
        default="quarantine",
        description="What to do with training examples whose label the experts doubted; held-out ones stay, apart.",
    )
    near_duplicates: bool = Field(
        default=True, description="Keep images that look the same, and texts that say the same, in one split."
    )
    label_errors: Literal["off", "report", "quarantine"] = Field(
        default="report", description="What to do with labels that a cross-validated classifier finds unlikely."
    )
    personal_data: bool = Field(
        default=False, description="Set aside text with e-mail addresses, phone or card numbers."
    )
    language: Annotated[str, AfterValidator(_a_language)] | None = Field(
        default=None, description="ISO 639-1 code; text in another language is set aside."
    )
    outliers: bool = Field(default=True, description="Set aside numbers far outside the region's own (number answers).")


_KINDS_OF_ANSWER: dict[type[Strict], tuple[str, ...]] = {
    ElpvSource: ("binary",),
    GeneratedSource: ("binary",),
    ScoredImagesSource: ("binary", "number"),
    DiamondsSource: ("number",),
    ScienceFactsSource: ("text",),
}
"""Sources that have answers of some kinds only; the others have what their files hold."""


def _regions_tag(found: object) -> str:
    return "discover" if isinstance(found, str) and found.startswith("disc") else "names"


Regions = Annotated[
    Annotated[list[Name], Field(min_length=1), Tag("names")] | Annotated[Literal["discover"], Tag("discover")],
    Discriminator(_regions_tag),
]
"""Told apart before they are judged, so that an error speaks of the one that was meant."""


class Task(Strict):
    """One problem: its source, prompt, kind of answer, model and provider."""

    task: TaskName
    """Its name: lower case, digits and `_`. Assets, jobs, sensors and the folder of its outputs are called so."""
    description: str = ""
    """A sentence for people, shown in Dagster."""
    regions: Regions
    """Names, each a partition of its own; or `discover`: those found in the data, and a sensor registers new ones."""
    source: Source
    """Where the labelled examples come from."""
    sampling: Sampling
    """How much of a region goes to each split."""
    prompt: Prompt = Prompt()
    """What every example is wrapped in."""
    answer: Answer
    """What an answer is: one of two words, one of several, a number, a text or a call of a function."""
    filtering: Filtering = Filtering()
    """What the QA filter looks for, and what becomes of it."""
    checks: dict[str, Literal["off", "warn", "error"]] = Field(
        default={}, description="Severity of asset checks by name; `error` blocks what follows."
    )
    base_model: str = Field(min_length=1, description="What is fine-tuned, as the provider calls it.")
    method: Method = Method()
    """How the provider trains."""
    benchmark: Benchmark = Benchmark()
    """How models are judged, and how their answers are used."""
    provider: ProviderName = Field(
        default="local",
        description="local, openai, azure, the base URL of a compatible provider, or a name whose base URL is in the "
        "environment: team-vllm is TEAM_VLLM_BASE_URL.",
    )
    budget_usd: Budget | None = Field(
        None,
        description='Most that one region\'s training may cost, or a limit for each by name; "*" is those that are not '
        "named, which else may cost nothing, and null is no limit. Without it there is none.",
    )
    monthly_budget_usd: Usd | None = Field(
        None, description="Most that all jobs of this task at its provider may cost in a calendar month (UTC)."
    )
    max_open_jobs: int | None = Field(
        None,
        ge=1,
        description="Jobs that may be open at the provider, whoever made them, for one more to be submitted.",
    )
    wandb: Wandb | None = None
    """Where the provider logs training to Weights & Biases; by default nowhere."""
    training_type: Literal["Standard", "GlobalStandard", "developerTier"] | None = Field(
        None, description="Azure's own: where and at what price it trains."
    )
    deployment: Deployment | None = Field(
        None, description="Azure's own: where a trained model is deployed; without it you deploy by hand."
    )
    prices: Prices | None = Field(None, description="What this provider asks; known for OpenAI's models and `local`.")
    costs: Costs | None = Field(None, description="What the model will be used for: compares with retrieval.")
    promotion: PromotionRule = Field(
        "automatic", description="When a region's new model becomes its champion: `automatic`, `approval`, or a policy."
    )
    rerun: Rerun | None = None
    """When changed regions are prepared again without being asked; by default never."""
    owners: list[Owner] = Field(default=[], description="Of its assets in Dagster: e-mail addresses, or team:NAME.")
    tags: Tags = Field(default={}, description="Of its assets in Dagster.")
    run_tags: RunTags = Field(default={}, description="Of the runs of its jobs, as a launcher or a queue reads them.")
    op_tags: RunTags = Field(default={}, description="Of every step, as an executor reads them.")
    notify: Notify | None = None
    """Who is told of failures and of what waits for a person; by default nobody."""
    review: Review = Review()
    """What reviewers are shown and asked."""
    in_use: InUse = InUse()
    """What becomes of the questions that its champions are asked; by default they are answered and nothing is kept."""

    @model_validator(mode="after")
    def _regions_are_unique(self) -> Task:
        if isinstance(self.regions, list) and len(set(self.regions)) != len(self.regions):
            raise ValueError(f"regions must be unique, got {self.regions}")
        if "discover" in self.regions and isinstance(self.regions, list):
            raise ValueError(
                "regions holds `discover` among its names; for all that the data has write it alone, "
                "without brackets: `regions: discover`"
            )
        return self

    @model_validator(mode="after")
    def _budgets_are_of_its_regions(self) -> Task:
        named = set(self.budget_usd) - {OTHERS} if isinstance(self.budget_usd, dict) else set()
        if unknown := sorted(named - set(self.regions)) if isinstance(self.regions, list) else []:
            raise ValueError(f"budget_usd names {unknown[0]!r}, which is none of the regions {self.regions}")
        return self

    @model_validator(mode="after")
    def _the_source_has_such_answers(self) -> Task:
        given = _KINDS_OF_ANSWER.get(type(self.source))
        if given and self.answer.kind not in given:
            raise ValueError(f"source {self.source.kind} has {' or '.join(given)} answers, not {self.answer.kind}")
        if isinstance(self.source, DrawnObjects) and (asks := self.source.asks_otherwise(self.answer.kind)):
            raise ValueError(asks)
        if isinstance(self.source, Columns) and self.source.support and self.answer.kind != "text":
            raise ValueError(f"source.support explains a text answer, and answer.kind is {self.answer.kind}")
        return self

    @model_validator(mode="after")
    def _values_are_answers(self) -> Task:
        values = self.source.values if isinstance(self.source, Tables) else None
        if values and isinstance(self.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
            answer = self.answer
            words = [answer.positive, answer.negative] if isinstance(answer, BinaryAnswer) else answer.options
            known = {word.strip().casefold() for word in words}
            if strange := [value for value in map(str, values.values()) if value.strip().casefold() not in known]:
                raise ValueError(f"source.values: {strange[0]!r} is no answer; they are {', '.join(words)}")
        return self

    @model_validator(mode="after")
    def _shots_answer_in_its_words(self) -> Task:
        if isinstance(answer := self.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
            words = [answer.positive, answer.negative] if isinstance(answer, BinaryAnswer) else answer.options
            if strange := [shot.answer for shot in self.prompt.shots if shot.answer.strip() not in words]:
                raise ValueError(f"prompt.shots must be answered by {', '.join(words)} alone, got {strange[0]!r}")
        return self

    @model_validator(mode="after")
    def _prompts_name_no_column(self) -> Task:
        columns = {column for text in texts_of(self.source) for column in columns_in(text)}
        if "question" in columns_in(self.prompt.system):
            raise ValueError('prompt.system has "{question}", which is filled in prompt.user alone; leave it out')
        for key, text in (("system", self.prompt.system), ("user", self.prompt.user)):
            if lost := sorted((columns - {"question"}) & set(columns_in(text))):
                advice = "write it in source.question, which takes the place of {question}"
                raise ValueError(f'prompt.{key} has "{{{lost[0]}}}", and columns are not filled in there; {advice}')
        return self

    @model_validator(mode="after")
    def _strata_are_words(self) -> Task:
        if self.sampling.stratify and not isinstance(self.answer, BinaryAnswer | ChoiceAnswer):
            raise ValueError(
                f"sampling.stratify shares out the words of binary and choice answers, and answer.kind is "
                f"{self.answer.kind}: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _only_azure_deploys(self) -> Task:
        if self.deployment and self.provider != "azure":
            raise ValueError(f"deployment is for the provider azure, not for {self.provider}: leave it out")
        return self

    @model_validator(mode="after")
    def _rewarded_as_its_answers_can_be(self) -> Task:
        if self.method.type == "reinforcement":
            if not isinstance(self.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
                raise ValueError(
                    "method.type reinforcement checks answers word for word, so that answer.kind must be binary, "
                    f"choice or score, got {self.answer.kind}: train it supervised"
                )
            if self.provider in ("openai", "azure"):
                raise ValueError(
                    f"method.type reinforcement is paid by the hour at {self.provider}, which no budget here knows: "
                    "train at provider local, or supervised"
                )
        return self

    @model_validator(mode="after")
    def _trained_as_the_provider_can(self) -> Task:
        if self.provider in ("openai", "azure") and (beyond := self.method.beyond_openai):
            raise ValueError(f"method.{next(iter(beyond))} is nothing that {self.provider} knows: leave it out")
        return self

    @model_validator(mode="after")
    def _judged_as_its_answers_can_be(self) -> Task:
        kind, asked = self.answer.kind, self.benchmark
        if asked.metric and asked.metric not in DECIDING[kind]:
            either = " or ".join(DECIDING[kind])
            raise ValueError(f"benchmark.metric must be {either} where answer.kind is {kind}, got {asked.metric!r}")
        if asked.operating_point and kind != "binary":
            raise ValueError(f"benchmark.operating_point is for binary answers, not for {kind}: leave it out")
        if asked.defer and kind == "number":
            raise ValueError("benchmark.defer needs answers with a probability, and numbers have none: leave it out")
        if why := next(filter(None, (unfit(arm, kind) for arm in asked.contest)), None):
            raise ValueError(f"benchmark.arms: {why}; leave it out")
        if kind == "call" and self.prompt.shots:
            raise ValueError("prompt.shots are questions answered in words, and answer.kind is call: leave them out")
        if self.in_use.review and asked.defer is None:
            raise ValueError("in_use.review lays before people what benchmark.defer leaves to them: give that as well")
        return self

    @property
    def policy(self) -> Promotion:
        """The policy that `promotion` says, in full."""
        return Promotion(by=self.promotion) if isinstance(self.promotion, str) else self.promotion

    def budget_of(self, region: str) -> float | None:
        """Return the most that the region's training may cost, in USD; None is no limit, and 0 where none is named."""
        if not isinstance(self.budget_usd, dict):
            return self.budget_usd
        return self.budget_usd.get(region, self.budget_usd.get(OTHERS, 0))

    def beside(self, folder: Path) -> Task:
        """Return the same task, its relative paths looked for in `folder` first: the YAML file's."""
        return Task.model_validate(self.model_dump(), context={"folder": folder})


def task_names(folder: Path | None = None) -> list[str]:
    """Names of all tasks of one folder, or of all there are, in alphabetical order."""
    return list(task_files(folder))


def read_task(name: str, folder: Path | None = None) -> Task:
    """The task of this name: that of one folder, or wherever it is (see `places`).

    Raises:
        TaskError: there is no such file, or what it says is wrong; the message has a line for each fault.
    """
    files = task_files(folder)
    if (found := files.get(name)) is None:
        where = "" if folder is None else f"in {folder} "
        raise TaskError(f"there is no task {name!r}; {where}there are {', '.join(files) or 'none'}")
    if found.twin is not None:
        raise TaskError(f"two tasks are called {name}, {found.path} and {found.twin}: rename the folder of one")
    if folder is not None:
        return read_attributes(found.path, Task, {"folder": found.path.parent})
    return read_task_file(found.path)


def read_task_file(path: Path) -> Task:
    """The task that a file says, whose folder has its name.

    Raises:
        TaskError: as `read_task`.
    """
    folder = path.parent
    task = read_attributes(path, Task, {"folder": folder})
    if task.task != folder.name:
        words = f"must be the folder's name, {folder.name}, got {task.task!r}; change one of them"
        line = yaml_file.read(path).fault(("attributes", "task"), words).line
        raise yaml_file.refusal(path, [yaml_file.Fault(line, "task", words)])
    return task


def readable_tasks() -> list[Task]:
    """All tasks but those whose files are wrong."""
    found: list[Task] = []
    for name in task_names():
        with suppress(TaskError):
            found.append(read_task(name))
    return found
