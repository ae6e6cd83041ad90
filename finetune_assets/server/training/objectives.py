"""What training minimises: the loss of supervised fine-tuning, and that of direct preference optimisation.

Both compute logits only at the places whose next token is learned, the tokens that all rows of a part begin with
once, and those that no learned token follows not at all where the network is `trimmed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from finetune_assets.server.durable import publish
from finetune_assets.server.model.network import Network, common_prefix
from finetune_assets.server.model.own_forward import logits_at
from finetune_assets.server.training.examples import Example, Pair, Reader, parts
from finetune_assets.server.training.room import TOKENS_AT_ONCE

if TYPE_CHECKING:
    from finetune_assets.server.training.rewards import Rewards

LOGITS_AT_ONCE = 2**28
"""More (a gigabyte in float32) are computed piece by piece, in the backward pass again."""

Item = TypeVar("Item")


class Objective(Protocol[Item]):
    """A loss over items of one kind."""

    tokens_at_once: int
    """That may pass through the model together, padding included."""

    def read(self, reader: Reader, path: Path) -> list[Item]:
        """Read a file in the format that this objective learns from."""
        ...

    def prepare(self, items: list[Item], folder: Path) -> None:
        """Compute what is needed of the model before it is trained; `folder` keeps it for a resumed job."""
        ...

    def answer(self, items: Sequence[Item], seed: str) -> Rewards | None:
        """Let the model answer before a step, where it learns from its own answers; say what these are worth."""
        ...

    def rehearse(self, items: Sequence[Item]) -> None:
        """Give items something to be learned from before the first step."""
        ...

    def examples(self, item: Item) -> list[Example]:
        """The conversations of an item."""
        ...

    def length(self, item: Item) -> int:
        """Tokens that the item takes in a batch of items like it."""
        ...

    def parts(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Split items into what passes through the model together."""
        ...

    def count(self, item: Item) -> int:
        """How many terms of the mean loss the item contributes."""
        ...

    def losses(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """Sum of the terms of `items` (nats), and how many of them were right."""
        ...


class Supervised:
    """Cross-entropy of the learned tokens; one is right where it was the most probable."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.tokens_at_once = TOKENS_AT_ONCE["cpu"][0]

    def read(self, reader: Reader, path: Path) -> list[Example]:
        """Read a file in chat format."""
        return reader.chats(path)

    def prepare(self, items: list[Example], folder: Path) -> None:
        """Nothing: the loss speaks only of the model as it is."""

    def answer(self, items: Sequence[Example], seed: str) -> None:
        """Nothing: what is learned stands in the file."""

    def rehearse(self, items: Sequence[Example]) -> None:
        """Nothing: it stands in the file."""

    def examples(self, item: Example) -> list[Example]:
        """The one conversation."""
        return [item]

    def length(self, item: Example) -> int:
        """Its tokens."""
        return len(item)

    def parts(self, items: Iterable[Example]) -> Iterator[list[Example]]:
        """Examples of like length, up to the tokens allowed at once."""
        return parts(items, self.length, self.tokens_at_once)

    def count(self, item: Example) -> int:
        """Learned tokens."""
        return int(item.learned[1:].sum())

    def losses(self, items: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy, and the number of tokens predicted right."""
        losses, right, _rows = cross_entropies(self._network, items, "sum")
        return losses, right


class Preference:
    """Direct preference optimisation (Rafailov et al. 2023, equation 7).

    -log sigmoid(beta * (margin - reference margin)), where a margin is by how much the log-probability of the preferred
    answer exceeds that of the other one, and the reference is the model before training. A pair is right where its
    margin has grown over the reference's.
    """

    def __init__(self, network: Network, beta: float) -> None:
        self._network = network
        self.tokens_at_once = TOKENS_AT_ONCE["cpu"][0]
        self._beta = beta

    def read(self, reader: Reader, path: Path) -> list[Pair]:
        """Read a file in preference format."""
        return reader.pairs(path)

    def prepare(self, items: list[Pair], folder: Path) -> None:
        """Give every pair its reference margin: the reference is frozen, so one pass before training is enough."""
        kept = folder / "reference.safetensors"
        if not kept.exists():
            scratch = kept.with_suffix(".partial")
            save_file({"margins": self._reference(items)}, scratch)
            publish(scratch, kept)
        for pair, margin in zip(items, load_file(kept)["margins"].tolist(), strict=True):
            pair.reference = margin

    def answer(self, items: Sequence[Pair], seed: str) -> None:
        """Nothing: what is learned stands in the file."""

    def rehearse(self, items: Sequence[Pair]) -> None:
        """Nothing: it stands in the file."""

    def examples(self, item: Pair) -> list[Example]:
        """The conversation with the preferred answer, and that with the other one."""
        return [item.preferred, item.other]

    def length(self, item: Pair) -> int:
        """Twice the longer one's tokens."""
        return 2 * max(len(item.preferred), len(item.other))

    def parts(self, items: Iterable[Pair]) -> Iterator[list[Pair]]:
        """Pairs of like length, up to the tokens allowed at once."""
        return parts(items, self.length, self.tokens_at_once)

    def count(self, item: Pair) -> int:  # noqa: ARG002
        """A pair is one term."""
        return 1

    def losses(self, items: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Summed loss, and the number of pairs whose margin exceeds the reference's."""
        reference = torch.tensor([item.reference for item in items], device=self._network.device)
        gained = self._beta * (self._margins(items) - reference)
        return -F.logsigmoid(gained).sum(), (gained.detach() > 0).sum()

    @torch.no_grad()
    def _reference(self, items: list[Pair]) -> Tensor:
        places = {id(item): place for place, item in enumerate(items)}
        margins = torch.zeros(len(items))
        for part in self.parts(items):
            margins[[places[id(item)] for item in part]] = self._margins(part).cpu()
        return margins

    def _margins(self, items: Sequence[Pair]) -> Tensor:
        """`[b]`: log-probability of the preferred answer less that of the other one."""
        rows = [item.preferred for item in items] + [item.other for item in items]
        losses, _right, row = cross_entropies(self._network, rows, "none")
        sums = losses.new_zeros(len(rows)).index_add(0, row, -losses)
        return sums[: len(items)] - sums[len(items) :]


def cross_entropies(network: Network, batch: Sequence[Example], reduction: str) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of the batch's t learned tokens (nats; `[t]`, or their sum), the number right, and rows `[t]`."""
    if network.whole:
        logits, targets, row = _one_by_one(network, batch)
        return (*_judged(logits, targets, reduction), row)
    states, targets, row = learned_states(network, batch)
    return (*judged(network, states, targets, reduction), row)


def judged(network: Network, states: Tensor, targets: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    """Cross-entropy of t tokens predicted from these states `[t, d]` (`[t]`, or their sum), and the number right."""
    size = max(1, LOGITS_AT_ONCE // network.vocabulary)
    if len(targets) <= size:
        return _judged(network.logits(states), targets, reduction)

    def judge(states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return _judged(network.logits(states), targets, reduction)

    pieces = zip(states.split(size), targets.split(size), strict=True)
    found = [checkpoint(judge, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    losses = [losses for losses, _ in found]
    right = torch.stack([right for _, right in found]).sum()
    return torch.stack(losses).sum() if reduction == "sum" else torch.cat(losses), right


def _judged(logits: Tensor, targets: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    right = (logits.detach().argmax(-1) == targets).sum()
    return F.cross_entropy(logits, targets, reduction=reduction), right


@dataclass(frozen=True, slots=True)
class Passing:
    """What of a batch passes through a network, and where the next token is learned."""

    ids: list[list[int]]
    images: list[list[Tensor]]
    shared: int
    """Tokens that all rows begin with, which pass once."""
    row: Tensor
    """`[t]`: of each learned token."""
    column: Tensor
    """`[t]`."""
    targets: Tensor
    """`[t]`: the learned tokens."""

    @classmethod
    def of(cls, network: Network, batch: Sequence[Example]) -> Passing:
        """Of these examples, as far as the network has to see them."""
        seen = [example.trimmed() if network.trimmed else (example.ids, example.images) for example in batch]
        rows, images = [ids.tolist() for ids, _ in seen], [images for _, images in seen]
        learned = torch.nn.utils.rnn.pad_sequence([example.learned for example in batch], batch_first=True)
        learned[:, 0] = False
        row, column = learned.nonzero(as_tuple=True)
        targets = torch.cat([example.ids[mask[: len(example)]] for example, mask in zip(batch, learned, strict=True)])
        alone = len(batch) == 1 or network.recomputes  # a layer that runs again would meet what it left for the others
        shared = 0 if alone else common_prefix(rows, at_most=int(column.min()) - 1)
        return cls(rows, images, shared, *(tensor.to(network.device) for tensor in (row, column, targets.long())))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(ids) for ids in self.ids]

    @property
    def n_tokens(self) -> int:
        """That pass, padding included."""
        return self.shared + len(self.ids) * (max(self.lengths) - self.shared)

    def embedded(self, network: Network) -> Tensor:
        """`[b, s, d]`."""
        return network.embed(self.ids, self.images)

    def embedded_packed(self, network: Network) -> Tensor:
        """`[t, d]`, the rows behind one another."""
        [embedded] = network.embed([list(chain(*self.ids))], [list(chain(*self.images))])
        return embedded

    def predicting(self, states: Tensor) -> Tensor:
        """Those of the states `[b, s - shared, d]` that the learned tokens are predicted from, `[t, d]`."""
        return states[self.row, self.column - 1 - self.shared]

    def predicting_packed(self, states: Tensor) -> Tensor:
        """The same of the states of packed rows, `[t, d]`."""
        begin = torch.tensor([0, *accumulate(self.lengths)], device=states.device)
        return states[begin[self.row] + self.column - 1]


def learned_states(network: Network, batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Last hidden states `[t, d]` that the batch's t learned tokens are predicted from, these `[t]` and rows `[t]`."""
    passing = Passing.of(network, batch)
    if network.packed is not None and network.packed.pays(passing.lengths, passing.shared):
        states = network.packed.states(passing.embedded_packed(network), passing.lengths)
        return passing.predicting_packed(states), passing.targets, passing.row
    states = network.states(passing.embedded(network), passing.shared)
    return passing.predicting(states), passing.targets, passing.row


def _one_by_one(network: Network, batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """The same by the model's own forward, of one conversation after the other."""
    logits, targets, rows = [], [], []
    for row, example in enumerate(batch):
        learned = example.learned[1:].nonzero()[:, 0]  # the first token is predicted from nothing
        logits.append(logits_at(network.model, example.ids, example.extras, learned))
        targets.append(example.ids[learned + 1].long())
        rows.append(torch.full_like(learned, row))
    device = network.device
    return torch.cat(logits), torch.cat(targets).to(device), torch.cat(rows).to(device)
