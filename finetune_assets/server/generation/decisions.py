"""Decisions: how likely each option of each question about one input is, without a token being generated.

The input that questions share is read once, and kept for the next request about it; what each question adds, and its
options as trees of tokens, are read in one run after that, each seeing the input and its own beginning alone. A
request is computed by itself and always in the same steps, so that what else the server does changes no answer.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Generator

import torch

from finetune_assets.server.generation.batch import explained
from finetune_assets.server.generation.decision_requests import Deciding
from finetune_assets.server.generation.decision_runs import SharedRuns, by_own_forward
from finetune_assets.server.generation.kv_cache import layout_of
from finetune_assets.server.generation.lora import Adapter, RowLora
from finetune_assets.server.generation.memory import Budget
from finetune_assets.server.generation.prefix_cache import PrefixCache
from finetune_assets.server.model.network import Network
from finetune_assets.server.turns import Turns

logger = logging.getLogger(__name__)


class Decisions:
    """Everything that is to be decided by one base model and its fine-tuned ones. Used by one thread only."""

    def __init__(self, network: Network, budget: Budget, lora: RowLora, release: Callable[[Adapter], None]) -> None:
        self.network = network
        kept = PrefixCache(budget.prefixes // 2)
        self._runs = None if network.whole else SharedRuns(network, layout_of(network), kept, budget.chunk)
        self._lora = lora
        self._chunk = budget.chunk
        self._release = release
        self._waiting: Turns[tuple[Deciding, Generator[int]]] = Turns()
        self._now: tuple[Deciding, Generator[int]] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return self._now is not None or bool(self._waiting)

    @property
    def n_rows(self) -> int:
        """Nothing grows here."""
        return 0

    @property
    def n_waiting(self) -> int:
        """Requests that are not answered yet."""
        return len(self._waiting) + (self._now is not None)

    def add(self, deciding: Deciding) -> None:
        """Queue a request."""
        runs = self._runs
        work = by_own_forward(self.network, deciding) if runs is None else runs.answer(deciding)
        self._waiting.add(deciding.request.owner, (deciding, work))

    def fail_all(self, error: Exception) -> None:
        """End everything that is under way."""
        for deciding, _ in [*self._waiting, *([self._now] if self._now else [])]:
            deciding.fail(error)

    @torch.inference_mode()
    def step(self, set_threads: Callable[[int], None]) -> None:
        """Take one request a run of the model further; owners are served in turn.

        Args:
            set_threads: called with the number of tokens that the run reads at most.
        """
        self._now = self._now or self._waiting.pop()
        deciding, work = self._now
        try:
            if not deciding.future.done():
                set_threads(self._chunk)
                self._lora.select([deciding.adapter])
                next(work)
                return
        except StopIteration:
            deciding.settle()
        except Exception as error:  # noqa: BLE001 - whoever asked gets it; the engine must live on
            # Without the error's message, which may quote a prompt.
            trace = "".join(traceback.format_tb(error.__traceback__))
            logger.warning("a decision of %s failed: %s\n%s", self.network.base.name, type(error).__name__, trace)
            deciding.fail(explained(error))
        self._now = None
        if deciding.adapter is not None:
            self._release(deciding.adapter)
