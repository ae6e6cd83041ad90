"""What graders look like on the wire, in requests for a grade and in jobs.

What is wrong in types and keys is found here, and what is wrong in templates, formulas and metrics by `grading`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag

from finetune_assets.errors import BaseModelError, GraderError
from finetune_assets.server import catalog
from finetune_assets.server.api.chat_messages import MAX_PARTS, Text
from finetune_assets.server.api.wire import ApiError, RequestBody
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.grading.graders import Grader, read

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Threshold = float | None


class StringCheckBody(RequestBody):
    """1 or 0: whether one text is, is not, or holds (`like`; `ilike` in any case) the other."""

    type: Literal["string_check"]
    name: Name
    input: Text
    reference: Text
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarityBody(RequestBody):
    """How alike two texts are, from 0 to 1."""

    type: Literal["text_similarity"]
    name: Name
    input: Text
    reference: Text
    evaluation_metric: Literal[
        "cosine", "fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5",
        "rouge_l",
    ]  # fmt: skip
    pass_threshold: Threshold = None
    """Of evaluations; a reward is the same with and without."""


class TextInput(RequestBody):
    """A text."""

    type: Literal["input_text", "output_text"]
    text: Text


class ImageInput(RequestBody):
    """An image."""

    type: Literal["input_image"]
    image_url: Text
    """A data URL, an https URL where the server fetches images, or a template of either."""
    detail: Literal["auto", "low", "high"] | None = None
    file_id: None = None


class AudioInput(RequestBody):
    """Refused: no model of this server hears."""

    type: Literal["input_audio"]
    input_audio: dict[str, Any]


Input = Text | Annotated[TextInput | ImageInput | AudioInput, Field(discriminator="type")]


class InputMessage(RequestBody):
    """A message to the model that scores."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Input | Annotated[list[Input], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
    type: Literal["message"] | None = None


class SamplingParams(RequestBody):
    """How the model that scores answers."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class ScoreModelBody(RequestBody):
    """A number that a model of this server gives."""

    type: Literal["score_model"]
    name: Name
    model: str
    input: Annotated[list[InputMessage], Field(min_length=1, max_length=128)]
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    sampling_params: SamplingParams | None = None
    pass_threshold: Threshold = None
    """Of evaluations; a reward is the same with and without."""


class UnservedBody(RequestBody):
    """Refused: `python` would run a client's code here, and `label_model` gives no reward."""

    model_config = ConfigDict(extra="allow")
    type: Literal["python", "label_model"]


Single = Annotated[StringCheckBody | TextSimilarityBody | ScoreModelBody | UnservedBody, Field(discriminator="type")]
_ONE, _NAMED = "one of (graders)", "graders (by name)"


def _form(graders: Any) -> str:
    is_one = isinstance(graders, RequestBody) or (isinstance(graders, dict) and isinstance(graders.get("type"), str))
    return _ONE if is_one else _NAMED


class MultiBody(RequestBody):
    """What a formula makes of the rewards of several graders."""

    type: Literal["multi"]
    name: Name | None = None
    graders: Annotated[
        Annotated[Single, Tag(_ONE)] | Annotated[dict[Name, Single], Field(min_length=1, max_length=32), Tag(_NAMED)],
        Discriminator(_form),
    ]
    """By name, as OpenAI's guide has it, or one alone, as its schema has it."""
    calculate_output: Text


GraderBody = Annotated[
    StringCheckBody | TextSimilarityBody | ScoreModelBody | UnservedBody | MultiBody, Field(discriminator="type")
]


def described(body: GraderBody) -> dict[str, Any]:
    """Describe a grader as it was sent; `multi`, which the guide's examples leave without a name, has one."""
    told = body.model_dump(mode="json", exclude_unset=True)
    return {"name": "multi"} | told if isinstance(body, MultiBody) else told


def usable(body: GraderBody, stores: Stores, param: str) -> Grader:
    """Make a grader ready. Not for the event loop: models are looked up.

    Args:
        body: of the request.
        stores: where the models are that it may ask.
        param: where in the request it stands.

    Raises:
        ApiError: something in it cannot be used; it names the place.
    """
    try:
        grader = read(described(body))
    except GraderError as error:
        place = f"{param}.{error.param}" if error.param else param
        code = "unsupported_value" if place.endswith((".type", ".evaluation_metric")) else "invalid_value"
        raise ApiError(400, f"Invalid '{place}': {error.told}.", param=place, code=code) from None
    for model, inner in grader.models:
        try:
            catalog.find(stores, model)
        except BaseModelError as error:
            message = f"The model `{model[:200]}` that scores is not served here: {error}"
            raise ApiError(400, message, param=f"{param}.{inner}", code="model_not_found") from None
    return grader
