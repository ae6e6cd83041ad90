"""Answers to completion requests: where those of all models, base and fine-tuned, come together.

A request goes through a `reader` (its prompt becomes tokens), waits in `prefill` (the tokens become keys and
values), and its `answer`s grow in a `batch` with those of others. One thread computes for all base models in turn.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

import torch

from finetune_assets.errors import BaseModelError
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.batch import Growing, explained
from finetune_assets.server.generation.decision_requests import Decided, DecisionRequest
from finetune_assets.server.generation.memory import weights_limit
from finetune_assets.server.generation.reader import Arrival, Asked, OtherEngine, Reader, ServedModel, ToDecide
from finetune_assets.server.generation.requests import Delta, Generation, GenerationRequest
from finetune_assets.server.generation.residence import Residence

_CLOSE_SECONDS = 10
_GATHERING, _LONGEST_GATHERING = 0.003, 0.03
"""Seconds that an idle engine waits for the next request, and for all: those sent together are read together."""

logger = logging.getLogger(__name__)


class Engine:
    """Generates on threads of its own; may be called from any number of others.

    Args:
        threads: how many compute threads the next run of a model, over so many tokens, may use.
        limit: bytes of weights that are kept in memory; None: as many as this machine has room for.
        other: another engine, which is offered each request first.
    """

    def __init__(
        self,
        threads: Callable[[int], int] = lambda _tokens: torch.get_num_threads(),
        limit: int | None = None,
        other: OtherEngine | None = None,
    ) -> None:
        self._other = other
        self._threads = threads
        self.residence: Residence[ServedModel] = Residence(weights_limit() if limit is None else limit)
        self._readers: dict[str, Reader] = {}
        self._lock = threading.Lock()
        self._arrivals: queue.Queue[Arrival | None] = queue.Queue()
        self._batches: list[Growing] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, listen: Callable[[Delta], None] | None = None) -> Future[Generation]:
        """Begin to answer, and return at once.

        Args:
            request: what is asked.
            listen: called on the engine's thread with each piece of the answers; it must return at once.

        Returns:
            The answers. `cancel()` at any time ends the work on them. It raises PromptError where the model cannot
            take the request, and BaseModelError where the model cannot be loaded or fails.
        """
        future: Future[Generation] = Future()
        self._reader_of(request.model.base).read(Asked(request, future, listen))
        return future

    def decide(self, request: DecisionRequest) -> Future[Decided]:
        """Begin to weigh the options of questions, and return at once. The future is one like that of `submit`."""
        future: Future[Decided] = Future()
        self._reader_of(request.model.base).read(ToDecide(request, future))
        return future

    def complete(self, request: GenerationRequest) -> Generation:
        """Answer and block until it is done. Raises as the future of `submit` does."""
        return self.submit(request).result()

    def close(self) -> None:
        """Stop after the step in progress; what is under way fails.

        A process that ends while its threads compute is aborted by the C++ runtime.
        """
        self._closed = True
        self._arrivals.put(None)
        self._thread.join(timeout=_CLOSE_SECONDS)

    @property
    def waiting(self) -> int:
        """Requests whose prompt is not being read yet."""
        return sum(reader.n_waiting for reader in list(self._readers.values())) + sum(
            batch.n_waiting for batch in list(self._batches)
        )

    @property
    def rows(self) -> int:
        """Answers that are growing now."""
        return sum(batch.n_rows for batch in list(self._batches))

    def in_memory(self) -> dict[str, int]:
        """How many base models are loaded, the bytes of their weights, and how many bytes may be."""
        models, taken = self.residence.loaded
        return {"models": models, "bytes": taken, "limit_bytes": self.residence.limit}

    def _reader_of(self, base: BaseModel) -> Reader:
        with self._lock:
            if base.weights not in self._readers:
                self._readers[base.weights] = Reader(base, self.residence, self._arrivals.put, self._other)
            return self._readers[base.weights]

    def _run(self) -> None:
        while not self._closed:
            self._welcome()
            for batch in list(self._batches):
                if batch.busy and not self._closed:
                    self._advance(batch)
            # A batch that rests is not held on to: its model may have to make room.
            self._batches = [batch for batch in self._batches if batch.busy]
        for batch in self._batches:
            batch.fail_all(BaseModelError("the server is stopping"))

    def _advance(self, batch: Growing) -> None:
        """Take a batch a step further. If that fails beside what a batch guards itself, so do its requests alone."""
        try:
            batch.step(self._set_threads)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it; the engine must live on
            # Without the error's message, which may quote a prompt.
            trace = "".join(traceback.format_tb(error.__traceback__))
            logger.warning("a step of generation failed: %s\n%s", type(error).__name__, trace)
            batch.fail_all(explained(error))

    def _set_threads(self, tokens: int) -> None:
        if (threads := self._threads(tokens)) != torch.get_num_threads():
            torch.set_num_threads(threads)

    def _welcome(self) -> None:
        """Take in what has arrived; if there is nothing else to do, wait for it, and a moment for its companions."""
        if not any(batch.busy for batch in self._batches):
            self._add(self._arrivals.get())
            deadline = time.monotonic() + _LONGEST_GATHERING
            with suppress(queue.Empty):
                while time.monotonic() < deadline:
                    self._add(self._arrivals.get(timeout=_GATHERING))
        while not self._arrivals.empty():
            self._add(self._arrivals.get())

    def _add(self, arrival: Arrival | None) -> None:
        if arrival is not None:
            if arrival.batch not in self._batches:
                self._batches.append(arrival.batch)
            arrival.join()
