"""What the stages of a region hand on, each with where it came from.

A record says what the task said when it was made, whose its ids are, and from which bytes it was made. Whoever reads
one that belongs to another YAML, to another provider or to another model refuses it, with what to do about it. The
stages from `finetuned_model` on judge a model as it was trained: with the prompt and the answer's words of its record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, PlainSerializer, PlainValidator, TypeAdapter, ValidationError
from upath import UPath

from finetune_assets.asking.spending import Estimate
from finetune_assets.errors import RecordError
from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.answering import Rule, UseReport
from finetune_assets.evaluation.benchmark.report import BenchmarkReport
from finetune_assets.evaluation.calibration import CalibrationReport, Calibrator, CoverageReport, Part
from finetune_assets.evaluation.drift import Reference
from finetune_assets.evaluation.retrieval_costs import Comparison
from finetune_assets.provider.client import Client, asked_as
from finetune_assets.provider.files import UploadedFile
from finetune_assets.results.region import Region, task_fingerprint
from finetune_assets.task import Prompt, Task
from finetune_assets.task.answers import Answer

_FREE = "nothing is paid twice"
Read = TypeVar("Read")


class TaskThen(BaseModel):
    """What a task said when a record was made, as far as a model depends on it."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    """Of all that it said."""
    prompt: Prompt
    answer: Answer
    base_model: str

    @classmethod
    def of(cls, task: Task) -> Self:
        """Note what the task says now."""
        return cls(
            fingerprint=task_fingerprint(task), prompt=task.prompt, answer=task.answer, base_model=task.base_model
        )

    def applied_to(self, task: Task) -> Task:
        """Return the task as it was then, in all that a model learns from; the rest is as it is now."""
        return task.model_copy(update={"prompt": self.prompt, "answer": self.answer, "base_model": self.base_model})


class ProviderThen(BaseModel):
    """Whose ids a record holds."""

    model_config = ConfigDict(frozen=True)

    name: str
    """As the task said it."""
    address: str
    """Its base URL, or `local`, whatever port that had."""

    @classmethod
    def of(cls, task: Task, client: Client) -> Self:
        """Note who is asked now."""
        return cls(name=task.provider, address=asked_as(client))

    def __str__(self) -> str:
        return self.name if self.name == self.address else f"{self.name} ({self.address})"


def _read(path: UPath, stage: str, parse: Callable[[bytes], Read]) -> Read:
    if not path.exists():
        raise RecordError(f"{path} is not there: materialise {stage} of this region first")
    try:
        return parse(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RecordError(
            f"{path}: {where}: {first['msg']}. It was left by an earlier version or changed by hand: materialise "
            f"{stage} of this region again ({_FREE})"
        ) from None


class Record(BaseModel):
    """What a stage hands on."""

    model_config = ConfigDict(frozen=True)

    stage: ClassVar[str]
    task: TaskThen
    inputs: dict[str, str]
    """SHA-256 (hex) of what it was made from, by name."""

    @classmethod
    def of(cls, region: Region) -> Self:
        """Read what the stage left of a region.

        Raises:
            RecordError: there is nothing, or it is of an earlier version, or was changed by hand.
        """
        return cls.read(region.path(cls.stage, ".json"))

    @classmethod
    def read(cls, path: UPath) -> Self:
        """Read what the stage left in a file.

        Raises:
            RecordError: as `of`.
        """
        return _read(path, cls.stage, cls.model_validate_json)

    def require_same_question(self, region: Region) -> None:
        """Refuse what was made for another prompt or other words than the task's YAML has now.

        Raises:
            RecordError: it was; the message says what differs.
        """
        now = region.task
        other = [
            name
            for name, then in (("prompt", self.task.prompt), ("answer", self.task.answer))
            if then != getattr(now, name)
        ]
        if other:
            raise RecordError(
                f"region {region.name}: {self.stage} was made when the task's `{'` and `'.join(other)}` said something "
                f"else. Materialise the region from filtered_qa on, or set the YAML back"
            )

    def require_made_from(self, region: Region, hashes: Mapping[str, str]) -> None:
        """Refuse what was made from other bytes.

        Raises:
            RecordError: it was.
        """
        if other := [name for name, sha256 in hashes.items() if self.hashes.get(name) != sha256]:
            raise RecordError(
                f"region {region.name}: {self.stage} is of another file ({', '.join(other)}) than the one that is "
                f"there now: materialise the region from training_jsonl on"
            )

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 (hex) of the files that it is about, by split."""
        return self.inputs


class OfProvider(Record):
    """What a stage hands on that means something to one provider alone."""

    provider: ProviderThen

    def require_same_provider(self, region: Region, client: Client) -> None:
        """Refuse ids that another provider gave.

        Raises:
            RecordError: it did; the message says which, and both ways out.
        """
        now = ProviderThen.of(region.task, client)
        if now.address != self.provider.address:
            raise RecordError(
                f"region {region.name}: {self.stage} belongs to the provider {self.provider}, and the YAML says {now}. "
                f"Set `provider` back to go on with it, or materialise the region from uploaded_file on"
            )


class FileWritten(BaseModel):
    """A training file of ours."""

    file: str
    n_examples: int
    bytes: int
    sha256: str


class Written(Record):
    """`training_jsonl`: the files that a provider trains on and validates with."""

    stage: ClassVar[str] = "training_jsonl"
    train: FileWritten
    validation: FileWritten

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of both, by split."""
        return {"train": self.train.sha256, "validation": self.validation.sha256}


class Validated(Record):
    """`validation_report`: what a provider would refuse in the files, and what training will cost."""

    stage: ClassVar[str] = "validation_report"
    ok: bool
    files: list[dict[str, JsonValue]]
    """As `finetune-assets validate --format json` has them."""
    estimate: Estimate
    costs: Comparison | None = None


class Uploaded(OfProvider):
    """`uploaded_file`: the files as a provider holds them."""

    stage: ClassVar[str] = "uploaded_file"
    train: UploadedFile
    validation: UploadedFile

    @property
    def files(self) -> dict[str, UploadedFile]:
        """Both, by split."""
        return {"train": self.train, "validation": self.validation}


class Submitted(OfProvider):
    """`finetune_job`: the one job of a request."""

    stage: ClassVar[str] = "finetune_job"
    job_id: str | None = None
    """None of a request that waits for a free place at its provider."""
    fingerprint: str
    """Of the request: what decides the weights."""
    reused: bool = False
    status: str
    """When it was submitted or found."""
    request: dict[str, JsonValue]
    """As it was sent."""


class Trained(OfProvider):
    """`finetuned_model`: the model that a job made."""

    stage: ClassVar[str] = "finetuned_model"
    model: str
    """As it is asked: the fine-tuned model, or the deployment that serves it."""
    fine_tuned_model: str
    checkpoint_step: int | None
    base_model: str
    job_id: str
    trained_tokens: int | None
    training_seconds: float | None
    cost_usd: float | None
    hyperparameters: dict[str, JsonValue]
    """As the provider tells them."""
    submitted_at: str


class Judged(OfProvider):
    """`benchmark`: whose answers were compared, and on what; kept in the report under `judged`."""

    stage: ClassVar[str] = "benchmark"
    model: str
    job_id: str

    @classmethod
    def of(cls, region: Region) -> Self:
        """Read which model a region's benchmark is of.

        Raises:
            RecordError: there is none, or it is of an earlier version.
        """
        import orjson

        path = region.path(cls.stage, ".json")
        report = orjson.loads(path.read_bytes()) if path.exists() else {}
        if "judged" not in report:
            raise RecordError(
                f"{path} does not say which model it is of: materialise benchmark of region {region.name} again; "
                f"models' answers are kept, and {_FREE}"
            )
        return cls.model_validate(report["judged"])


_REPORT = TypeAdapter(BenchmarkReport)


def report_of(region: Region) -> BenchmarkReport:
    """Read what a region's benchmark found.

    Raises:
        RecordError: there is none, or it is of an earlier version, or was changed by hand.
    """
    return _read(region.path(Judged.stage, ".json"), Judged.stage, _REPORT.validate_json)


def _read_calibrator(kept: Calibrator | dict[str, JsonValue]) -> Calibrator:
    return calibration.load(kept) if isinstance(kept, dict) else kept


KeptCalibrator = Annotated[Calibrator, PlainValidator(_read_calibrator), PlainSerializer(lambda made: made.to_dict())]


class Calibrated(OfProvider):
    """`calibrator`: what a model's probabilities are worth, and what becomes of them."""

    stage: ClassVar[str] = "calibrator"
    model: str
    job_id: str
    calibrator: KeptCalibrator
    report: CalibrationReport | CoverageReport
    rule: Rule | None
    use: UseReport | None
    parts: dict[str, tuple[Part, ...]] = {}
    """How it does in each subgroup, and of each option."""
    reference: Reference | None = None
    """How the held-out examples look, where the task watches what its champions are asked."""
    task_fingerprint: str
    """Of the task as it was when the model was trained."""


def require_same_model(region: Region, model: Trained, *others: Judged | Calibrated) -> None:
    """Refuse what was found out about another model than the region's newest.

    Raises:
        RecordError: it was; the message says which stage to make again.
    """
    for other in others:
        if (other.model, other.job_id) != (model.model, model.job_id):
            raise RecordError(
                f"region {region.name}: {other.stage} is of {other.model} (job {other.job_id}), and the newest model "
                f"is {model.model} (job {model.job_id}): materialise {other.stage} again"
            )
