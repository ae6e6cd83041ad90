"""What a task may say to its provider: how to train, where to log, and where to deploy what was trained."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from finetune_assets.task.strict import Strict

_ACCOUNT = re.compile(
    r"/subscriptions/[^/?#\s]+/resourceGroups/(?P<group>[^/?#\s]+)"
    r"/providers/Microsoft\.CognitiveServices/accounts/(?P<name>[\w.-]+)",
    re.IGNORECASE | re.ASCII,
)


PROVIDERS = ("local", "openai", "azure")
_OURS = ("finetune-assets", "finetune_assets")
"""What FINETUNE_ASSETS_BASE_URL would name, which is `local`."""
_ADDRESS = re.compile(r"https?://[^/\s]+.*")


def address_of(name: str) -> str | None:
    """Return the base URL of a provider that only the environment knows by name: `together`, by TOGETHER_BASE_URL.

    Its key is in TOGETHER_API_KEY then. None where the environment does not know it.
    """
    known = name not in (*PROVIDERS, *_OURS) and re.fullmatch(r"[a-z][a-z0-9_-]*", name)
    address = os.environ.get(f"{_variable(name)}_BASE_URL", "") if known else ""
    return address if _ADDRESS.fullmatch(address) else None


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _a_provider(name: str) -> str:
    if name in PROVIDERS or _ADDRESS.fullmatch(name):
        return name
    if (address := address_of(name)) is not None:
        return address
    near = get_close_matches(name.lower(), PROVIDERS, 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    if re.fullmatch(r"(?:localhost|[\w-]+(?:\.[\w-]+)+)(?::\d+)?(?:/\S*)?", name, re.ASCII):
        meant = f" (did you mean http{'' if ':' in name else 's'}://{name}?)"
    known = f"{', '.join(PROVIDERS)}, a base URL such as https://host/v1"
    raise ValueError(f"must be {known} or a name whose base URL is in {_variable(name)}_BASE_URL, got {name!r}{meant}")


ProviderName = Annotated[str, AfterValidator(_a_provider)]
"""Who trains: one that is known by name, or whoever speaks OpenAI's protocol at an address, by which a name of the
environment's is known from here on."""


OPENAI_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")


_OF_SUPERVISED = ("early_stopping_patience", "packing")
_OF_REINFORCEMENT = ("compute_multiplier", "eval_interval", "eval_samples", "max_completion_tokens", "beta")


class Method(Strict):
    """How the provider trains; `auto` leaves a value to the provider."""

    type: Literal["supervised", "reinforcement"] = "supervised"
    """Learns from the right answers, or from answers of its own by whether they are right."""
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] = "auto"
    """How often each training example is seen."""
    batch_size: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    """Examples of one step."""
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Multiplies the provider's own learning rate."""
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="The same seed and data give the same job.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Highest rate, in place of the provider's own. This and what follows: for `local` and others that take it."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps in which the rate rises."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None
    """By how much each step draws the weights towards 0, as a share of the rate."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Norm to which larger gradients are scaled down."""
    context_length: Annotated[int, Field(ge=16)] | None = None
    """Tokens at which longer examples are cut."""
    lora_r: Annotated[int, Field(ge=1, le=512)] | None = None
    """Rank of the LoRA layers."""
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    """Times which, divided by the rank, the LoRA layers count."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of what goes into the LoRA layers that each step leaves out."""
    early_stopping_patience: Annotated[int, Field(ge=1, le=50)] | None = None
    """Epochs without a lower loss on `validation` after which training ends, with the best epoch's weights."""
    packing: bool | None = None
    """Whether `batch_size` counts packs of examples with `context_length` tokens at most, and not examples."""
    train_vision_tower: bool | None = None
    """Whether the layers through which an open model sees learn as well."""

    compute_multiplier: Annotated[float, Field(gt=1e-5, le=10)] | None = None
    """Of reinforcement, as what follows: times 8 answers to each prompt are compared."""
    eval_interval: Annotated[int, Field(ge=1)] | None = None
    """Steps after which the prompts of `validation` are answered and a checkpoint is made; by default an epoch's."""
    eval_samples: Annotated[int, Field(ge=1, le=128)] | None = None
    """Answers to each of these prompts; by default one."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of an answer; by default what the task's longest word needs, 16 at least."""
    beta: Annotated[float, Field(ge=0, le=2)] | None = None
    """How dear it is to move away from the model's answers before training; by default it costs nothing."""

    @model_validator(mode="after")
    def _of_its_type(self) -> Method:
        foreign = _OF_SUPERVISED if self.type == "reinforcement" else _OF_REINFORCEMENT
        if found := [name for name in foreign if getattr(self, name) is not None]:
            raise ValueError(f"{found[0]} is not for the type {self.type}: leave it out")
        return self

    @property
    def beyond_openai(self) -> dict[str, int | float]:
        """What is set of that which OpenAI does not know."""
        return self.model_dump(exclude_none=True, exclude={"type", "seed", *OPENAI_HYPERPARAMETERS})


class Wandb(Strict):
    """Where the provider logs training to Weights & Biases."""

    project: str = Field(min_length=1, description="Project to which runs are added.")
    name: str | None = None
    """Display name of the run; by default the job's id."""
    entity: str | None = None
    """Team or user; by default that of the key."""
    tags: list[str] | None = None
    """Tags of the run."""


class Deployment(Strict):
    """Where Azure hosts a fine-tuned model, so that it can be asked."""

    account: str = Field(
        description="Resource ID of the Azure OpenAI account; `az cognitiveservices account show --query id` prints it."
    )
    sku: Literal["Standard", "GlobalStandard", "developerTier"] = Field(
        description="The first two cost by the hour; developerTier does not, and its deployments end after 24 hours."
    )
    capacity: int = Field(50, ge=1, description="Thousands of tokens a minute, of your quota.")

    @field_validator("account")
    @classmethod
    def _is_a_resource_id(cls, account: str) -> str:
        if not _ACCOUNT.fullmatch(account.rstrip("/")):
            form = "/subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.CognitiveServices/accounts/NAME"
            raise ValueError(f"account must be the resource ID, {form}")
        return account.rstrip("/")

    @property
    def group_and_name(self) -> tuple[str, str]:
        """The account's resource group and its name, as Azure's command line takes them."""
        found = _ACCOUNT.fullmatch(self.account)
        assert found is not None  # noqa: S101 - validated
        return found["group"], found["name"]
