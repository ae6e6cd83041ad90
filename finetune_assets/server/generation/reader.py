"""What a request needs before it can join a batch: its model in memory, its images looked at, its prompt encoded.

This happens on threads of its own for each base model, so that the language model decodes meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.batch import Batch, Growing
from finetune_assets.server.generation.completion import Completion, block_keys
from finetune_assets.server.generation.decision_requests import Decided, Deciding, DecisionRequest
from finetune_assets.server.generation.decisions import Decisions
from finetune_assets.server.generation.kv_cache import cannot_batch
from finetune_assets.server.generation.lora import AdapterShelf
from finetune_assets.server.generation.memory import Budget, budget, weight_bytes
from finetune_assets.server.generation.own_batch import OwnBatch
from finetune_assets.server.generation.requests import Delta, Generation, GenerationRequest
from finetune_assets.server.generation.residence import Residence
from finetune_assets.server.generation.shape import AnswerShape
from finetune_assets.server.model import four_bit
from finetune_assets.server.model.chat_encoding import (
    ImageFeatures,
    ImageSource,
    PromptError,
    Sequence,
    encode_prompt,
    has_images,
    has_remote_images,
    with_fetched_images,
)
from finetune_assets.server.model.decision_encoding import encode_questions
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.turns import TurnQueue


class AnsweringModel:
    """A model in memory that answers, with what is kept beside it.

    Args:
        network: the model.
        features: where those of images come from; None: they are made and kept in memory.
    """

    def __init__(self, network: Network, features: ImageSource | None = None) -> None:
        self.network = network
        self._shape = AnswerShape(network)
        self._limits: Budget = budget(network.device)
        self.features: ImageSource = features or ImageFeatures(network, budget_bytes=self._limits.images)
        self.adapters = AdapterShelf(network, self._limits.adapters)
        alone = network.whole or cannot_batch(network)
        self.batch = (OwnBatch if alone else Batch)(network, self._limits, self._release)

    def prepare(self, asked: Asked) -> Completion:
        """Encode a request and load its adapter.

        Raises:
            PromptError: the model cannot take it.
            BaseModelError: its adapter cannot be loaded.
        """
        request = asked.request
        self._check(request)
        self._shape.check(request)
        prompt = self._prompt(asked)
        limit = self._limit(request, prompt)
        answers = [self._shape.answer(request, index, limit, asked.listen) for index in range(request.n)]
        for answer in answers if limit == 0 else ():
            answer.finish_reason = "length"
        adapter = self.adapters.acquire(request.model.adapter) if request.model.adapter else None
        keys = [] if self.network.whole else block_keys(prompt, adapter)
        return Completion(request, asked.future, prompt, adapter, answers, keys)

    def _prompt(self, asked: Asked) -> Sequence:
        request, network = asked.request, self.network
        if request.text is None:
            features = WhileWanted(self.features, asked.future)
            return encode_prompt(network, request.messages, features, request.tools, request.effort)
        ids = request.text if isinstance(request.text, list) else network.tokenizer(request.text).input_ids
        if not ids or not all(0 <= token < network.vocabulary for token in ids):
            message = f"'prompt' must hold tokens, with ids from 0 to {network.vocabulary - 1}."
            raise PromptError(message, "invalid_value", "prompt")
        return Sequence(list(ids), [False] * len(ids))

    def _check(self, request: GenerationRequest) -> None:
        for token in request.logit_bias:
            if not 0 <= token < self.network.vocabulary:
                message = (
                    f"Invalid key in 'logit_bias': {token}. Token ids of this model go from 0 to "
                    f"{self.network.vocabulary - 1}."
                )
                raise PromptError(message, "invalid_value", "logit_bias")

    def _limit(self, request: GenerationRequest, prompt: Sequence) -> int:
        room, least = self.network.max_length - len(prompt.ids), 1 if request.max_tokens is None else request.max_tokens
        if room < least:
            message = (
                f"This model's maximum context length is {self.network.max_length} tokens. However, your messages "
                f"resulted in {len(prompt.ids)} tokens and you asked for {least} more."
            )
            param = "messages" if request.text is None else "prompt"
            raise PromptError(message, "context_length_exceeded", param)
        return room if request.max_tokens is None else request.max_tokens

    def _release(self, completion: Completion) -> None:
        if completion.adapter is not None:
            self.adapters.release(completion.adapter)


class ServedModel(AnsweringModel):
    """A base model as it is served: it answers and decides, for itself and for the fine-tuned models of it."""

    def __init__(self, base: BaseModel) -> None:
        network = load(base)
        network.whole = network.whole or cannot_batch(network)
        network.lay_out_for_serving()
        super().__init__(network)
        self.decisions = Decisions(network, self._limits, self.batch.lora, self.adapters.release)

    def ready(self, asked: Asked | ToDecide) -> Arrival:
        """Do all that a request needs before it can be computed. Raises as `prepare` does."""
        if isinstance(asked, ToDecide):
            return Arrival(self.decisions, partial(self.decisions.add, self.prepare_decision(asked)))
        completion = self.prepare(asked)
        return Arrival(self.batch, partial(self.batch.add, completion), completion)

    def prepare_decision(self, asked: ToDecide) -> Deciding:
        """Encode an input and its questions, and load the adapter. Raises as `prepare` does."""
        request = asked.request
        images = WhileWanted(self.features, asked.future)
        questions = encode_questions(self.network, request.messages, request.lead, request.questions, images)
        for question in questions:
            longest = len(question.shared.ids) + len(question.tail.ids) + max(map(len, question.options))
            if longest > self.network.max_length:
                message = (
                    f"This model's maximum context length is {self.network.max_length} tokens. However, your input, "
                    f"a question and an option of it have {longest} tokens."
                )
                raise PromptError(message, "context_length_exceeded", "input")
        adapter = self.adapters.acquire(request.model.adapter) if request.model.adapter else None
        return Deciding(request, asked.future, questions, adapter)

    def n_bytes(self) -> int:
        """What its weights take."""
        return four_bit.n_bytes(self.network.model)


@dataclass(frozen=True)
class WhileWanted:
    """Features of the images of a request, looked at one by one until nobody waits for the answer any more."""

    features: ImageSource
    future: Future[Any]

    def of(self, data_url: str, /) -> Tensor:
        """`[slots, d_features]` of the image.

        Raises:
            PromptError: as `ImageFeatures.of`, or because the client has gone.
        """
        if self.future.cancelled():
            raise PromptError("the client no longer waits for the answer", "cancelled")
        return self.features.of(data_url)


@dataclass(frozen=True)
class Asked:
    """A request, and whoever waits for it."""

    request: GenerationRequest
    future: Future[Generation]
    listen: Callable[[Delta], None] | None

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The messages whose images are looked at."""
        return self.request.messages

    def showing(self, shown: list[dict[str, Any]]) -> Asked:
        """The same with these messages."""
        return replace(self, request=replace(self.request, messages=shown))

    def fail(self, error: Exception) -> None:
        """Raise `error` where the answers are waited for."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(frozen=True)
class ToDecide:
    """A request for decisions, and whoever waits for them."""

    request: DecisionRequest
    future: Future[Decided]

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The messages whose images are looked at."""
        return self.request.shown

    def showing(self, shown: list[dict[str, Any]]) -> ToDecide:
        """The same with these messages."""
        return replace(self, request=self.request.showing(shown))

    def fail(self, error: Exception) -> None:
        """Raise `error` where the answers are waited for."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(frozen=True)
class Arrival:
    """A request that is ready to be computed."""

    batch: Growing
    join: Callable[[], None]
    """Adds it to the batch; on the engine's thread."""
    completion: Completion | None = None
    """What another engine may begin with; None of a decision."""


class OtherEngine(Protocol):
    """Makes answers in the place of a batch (see `handover`)."""

    def take(self, completion: Completion, network: Network, give_back: Callable[[], None], /) -> bool:
        """Begin with a request, and give it back once done what could be; False: it is the batch's from the start."""
        ...


class Reader:
    """Prepares the requests for one base model and hands them over, those of each owner in the order they come.

    Requests with images have a thread of their own: a text never waits until the images of others are looked at.
    """

    def __init__(
        self,
        base: BaseModel,
        residence: Residence[ServedModel],
        hand_over: Callable[[Arrival], None],
        other: OtherEngine | None = None,
    ) -> None:
        self._base = base
        self._residence = residence
        self._resident = residence.add(lambda: weight_bytes(base))
        self._hand_over = hand_over
        self._other = other
        self._loading = threading.Lock()
        self._texts: TurnQueue[Asked | ToDecide] = TurnQueue(lambda asked: asked.request.owner)
        self._shown: TurnQueue[Asked | ToDecide] = TurnQueue(lambda asked: asked.request.owner)
        for lane in (self._texts, self._shown):
            threading.Thread(target=self._run, args=(lane,), name=f"reader of {base.name}", daemon=True).start()

    @property
    def n_waiting(self) -> int:
        """Requests that nothing was done for yet."""
        return self._texts.qsize() + self._shown.qsize()

    def read(self, asked: Asked | ToDecide) -> None:
        """Queue a request. One with images on other servers waits for them outside the queue."""
        if has_remote_images(asked.shown):
            threading.Thread(target=self._fetch, args=(asked,), name="images of a request", daemon=True).start()
        elif has_images(asked.shown):
            self._shown.put(asked)
        else:
            self._texts.put(asked)

    def _fetch(self, asked: Asked | ToDecide) -> None:
        try:
            fetched = asked.showing(with_fetched_images(asked.shown))
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            asked.fail(error)
            return
        self._shown.put(fetched)

    def _run(self, lane: TurnQueue[Asked | ToDecide]) -> None:
        while True:
            self._prepare(lane.get())

    def _prepare(self, asked: Asked | ToDecide) -> None:
        """Hand a request over. Nothing of the model is held on to after that: it may have to make room."""
        if asked.future.cancelled():
            return
        try:
            with self._loading:
                model = self._residence.enter(self._resident, lambda: ServedModel(self._base), ServedModel.n_bytes)
            asked.future.add_done_callback(lambda _: self._residence.leave(self._resident))
            arrival = model.ready(asked)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it; the thread must live on
            asked.fail(error)
        else:
            give_back, completion = partial(self._hand_over, arrival), arrival.completion
            if self._other is None or completion is None or not self._other.take(completion, model.network, give_back):
                give_back()
