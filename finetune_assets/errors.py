"""Every error this package raises on purpose: one root, and leaves that are also their standard twin.

A message names the file, line and field where there is one, what was found, and what to do about it.
"""


class FinetuneAssetsError(Exception):
    """The root: `except FinetuneAssetsError` catches what we raise and nothing else."""


class TaskError(FinetuneAssetsError, ValueError):
    """A task's YAML says something that cannot be done."""


class TaskFileError(TaskError):
    """What a task's file says is wrong in one or more places; `faults` has a line for each, as the message has."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class SourceError(FinetuneAssetsError, ValueError):
    """A task's labelled data cannot be read at all (a single bad row is quarantined instead)."""


class CaseError(FinetuneAssetsError, ValueError):
    """A case of somebody's evaluation cannot be taken over as it is meant (the others can)."""


class ImageError(FinetuneAssetsError, ValueError):
    """An image is missing, unreadable or outside what a provider accepts. `reason` is a quarantine code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class TrainingFileError(FinetuneAssetsError, ValueError):
    """A training file breaks the chat format."""


class TargetError(FinetuneAssetsError, ValueError):
    """A provider or model is named whose limits nobody knows."""


class ProviderError(FinetuneAssetsError, RuntimeError):
    """A provider refused a request, or does not answer."""


class RecordError(FinetuneAssetsError, ValueError):
    """What a stage left belongs to another YAML, provider or model, or to an earlier version."""


class JobFailedError(ProviderError):
    """A fine-tuning job ended as failed or cancelled."""


class NoFreePlaceError(ProviderError):
    """As many jobs are open at the provider as the task allows."""


class OverBudgetError(ProviderError):
    """A job would cost more than the task allows, or nobody knows what it costs."""


class NoticeError(FinetuneAssetsError, RuntimeError):
    """People cannot be told what they asked to be told."""


class WebhookError(FinetuneAssetsError, ValueError):
    """A webhook is not signed by the provider, or is too old."""


class AddressInUseError(FinetuneAssetsError, OSError):
    """Something else listens on the address that a server of ours was to have."""


class AnswerCacheError(FinetuneAssetsError, RuntimeError):
    """Models' answers cannot be kept on disk, or read again."""


class FeedbackDatabaseError(FinetuneAssetsError, RuntimeError):
    """The feedback database cannot be opened or reached, or does not answer in time."""


class EvaluationError(FinetuneAssetsError, ValueError):
    """Predictions cannot be scored or calibrated: too few, of one class only, or of another model."""


class BaseModelError(FinetuneAssetsError, RuntimeError):
    """A base model is unknown, cannot be fetched, or its bytes are not the published ones."""


class UnfitModelError(BaseModelError):
    """A base model is of a kind that this server would not train and serve as its makers meant, or is not whole."""


class ExportError(FinetuneAssetsError, ValueError):
    """A model cannot be written for other tools, or not there."""


class GraderError(FinetuneAssetsError, ValueError):
    """A grader cannot be used: a template, formula, metric or model in it is wrong, or not available.

    `param` is the place in the grader (`graders.name.input`), `told` what is wrong there.
    """

    def __init__(self, told: str, param: str = "") -> None:
        super().__init__(f"{param}: {told}" if param else told)
        self.told, self.param = told, param


class PrecisionError(FinetuneAssetsError, ValueError):
    """`FINETUNE_ASSETS_DTYPE` names no precision that models compute in."""
