"""Decisions: how likely each option of each question about one input is, without a token being generated.

The input that questions share is read once, and kept for the next request about it; what each question adds, and its
options as trees of tokens, are read in one run after that, each seeing the input and its own beginning alone. What
requests need next is read side by side where that changes no bit, so that what else the server does changes no answer.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from finetune_assets.server.generation.batch import explained
from finetune_assets.server.generation.decision_readings import ROWS, Read, Reading, Readings
from finetune_assets.server.generation.decision_requests import Deciding
from finetune_assets.server.generation.decision_runs import SharedRuns, Work, by_own_forward
from finetune_assets.server.generation.kv_cache import layout_of
from finetune_assets.server.generation.lora import Adapter, RowLora
from finetune_assets.server.generation.memory import Budget
from finetune_assets.server.generation.prefix_cache import PrefixCache
from finetune_assets.server.generation.steadiness import steady
from finetune_assets.server.model.network import Network
from finetune_assets.server.turns import Turns

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Begun:
    """A request, and what it needs next; nothing: a run of its own."""

    deciding: Deciding
    work: Work
    next: list[Reading] = field(default_factory=list)
    read: list[Read] = field(default_factory=list)
    """Of the first of these, what was found."""

    @property
    def left(self) -> list[Reading]:
        """What is not read yet; all of one shape."""
        return self.next[len(self.read) :]


_Wanted: TypeAlias = "tuple[_Begun, Reading | None]"


class Decisions:
    """Everything that is to be decided by one base model and its fine-tuned ones. Used by one thread only."""

    def __init__(self, network: Network, budget: Budget, lora: RowLora, release: Callable[[Adapter], None]) -> None:
        self.network = network
        self._lora = lora
        self._chunk = budget.chunk
        self._release = release
        self._waiting: Turns[Deciding] = Turns()
        self._begun: list[_Begun] = []
        self._shared: tuple[SharedRuns, Readings] | None = None
        self._steady = False
        if not network.whole:
            layout = layout_of(network)
            self._steady = steady(network, layout)
            runs = SharedRuns(network, PrefixCache(budget.prefixes // 2), budget.chunk)
            self._shared = runs, Readings(network, layout)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._begun or self._waiting)

    @property
    def n_rows(self) -> int:
        """Nothing grows here."""
        return 0

    @property
    def n_waiting(self) -> int:
        """Requests that are not answered yet."""
        return len(self._waiting) + len(self._begun)

    def add(self, deciding: Deciding) -> None:
        """Queue a request."""
        self._waiting.add(deciding.request.owner, deciding)

    def fail_all(self, error: Exception) -> None:
        """End everything that is under way."""
        for deciding in [*self._waiting, *(begun.deciding for begun in self._begun)]:
            deciding.fail(error)

    @torch.inference_mode()
    def step(self, set_threads: Callable[[int], None]) -> None:
        """Take some requests a run of the model further; those that have begun take turns.

        A row is computed on one thread, whatever `set_threads` would say: how many there are changes bits.
        """
        del set_threads
        torch.set_num_threads(1)
        self._begin()
        if group := self._group():
            requests = list(dict.fromkeys(begun for begun, _ in group))
            self._begun = [begun for begun in self._begun if begun not in requests] + requests
            for (begun, _), read in zip(group, self._read(group), strict=False):
                begun.read += [read] if read else []
            for begun in requests:
                if begun in self._begun and (begun.deciding.future.done() or not begun.left):
                    self._go_on(begun, begun.read)

    def _begin(self) -> None:
        """Begin with requests that wait: of an owner who has none begun, always."""
        while deciding := next(iter(self._waiting), None):
            owners = {begun.deciding.request.owner for begun in self._begun}
            if len(self._begun) >= ROWS and deciding.request.owner in owners:
                return
            self._waiting.pop()
            work = by_own_forward(self.network, deciding) if self._shared is None else self._shared[0].answer(deciding)
            self._begun.append(begun := _Begun(deciding, work))
            self._go_on(begun, None)

    def _group(self) -> list[_Wanted]:
        """A reading of the request whose turn it is, and others, of whatever request, that may share its run."""
        if not self._begun or not self._begun[0].left:
            return [(begun, None) for begun in self._begun[:1]]
        wanted = self._begun[0].left[0]
        if not self._steady:
            return [(self._begun[0], wanted)]
        alike = [(begun, one) for begun in self._begun for one in begun.left if one.shape == wanted.shape]
        return list(alike[: max(1, min(ROWS, self._chunk // wanted.width))])

    def _read(self, group: list[_Wanted]) -> list[Read | None]:
        """Run the model for a group, or for the first of it if that fails."""
        readings = [one for _, one in group if one is not None]
        self._lora.select([group[0][0].deciding.adapter])  # one row stands for all, which have the same
        if self._shared is None or not readings:
            return [None]
        try:
            return [*self._shared[1].run(readings)]
        except Exception as error:  # noqa: BLE001 - whoever asked gets it; the engine must live on
            if len(group) > 1:
                return self._read(group[:1])
            self._fail(group[0][0], error)
            return []

    def _go_on(self, begun: _Begun, read: list[Read] | None) -> None:
        """Hand a request what was read for it."""
        if begun.deciding.future.done():
            self._end(begun)
            return
        try:
            begun.next, begun.read = next(begun.work) if read is None else begun.work.send(read), []
        except StopIteration:
            begun.deciding.settle()
            self._end(begun)
        except Exception as error:  # noqa: BLE001 - as in `_read`
            self._fail(begun, error)

    def _fail(self, begun: _Begun, error: Exception) -> None:
        # Without the error's message, which may quote a prompt.
        trace = "".join(traceback.format_tb(error.__traceback__))
        logger.warning("a decision of %s failed: %s\n%s", self.network.base.name, type(error).__name__, trace)
        begun.deciding.fail(explained(error))
        self._end(begun)

    def _end(self, begun: _Begun) -> None:
        self._begun.remove(begun)
        if begun.deciding.adapter is not None:
            self._release(begun.deciding.adapter)
