"""The options of a question as a tree of tokens: what is alike in them is read once, and told apart where it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_ALL = 1 - 1e-12
"""The largest share of an option's probability that longer options may take away."""


class OptionTrie:
    """Nodes are numbered, parents before children; node 0 is where the prompt ends.

    The probability of an option is that the answer begins with its tokens and with those of no longer option. So `No`
    and `No finding` share what the model gives to `No`, as it goes on.
    """

    def __init__(self, options: Sequence[Sequence[int]]) -> None:
        self.parents = [-1]
        self.tokens = [-1]
        """Of each node the token that leads to it."""
        self.children: list[dict[int, int]] = [{}]
        self._ends: list[int] = []
        for option in options:
            node = 0
            for token in option:
                node = self.children[node].get(token) or self._grow(node, token)
            self._ends.append(node)

    @property
    def inner(self) -> list[int]:
        """The nodes at which the model has to say what comes next."""
        return [node for node, children in enumerate(self.children) if children]

    def path(self, node: int) -> list[int]:
        """The nodes from the prompt's end to a node, both included."""
        nodes = [node]
        while nodes[-1]:
            nodes.append(self.parents[nodes[-1]])
        return nodes[::-1]

    def log_probabilities(self, steps: Mapping[int, Mapping[int, float]]) -> list[float]:
        """Natural logarithms of the options' probabilities, which add up to at most 1.

        Args:
            steps: for each inner node the log-probability of each token that leads to a child.
        """
        reached = [0.0] * len(self.parents)
        for node in range(1, len(self.parents)):
            parent = self.parents[node]
            reached[node] = reached[parent] + steps[parent][self.tokens[node]]
        ends = set(self._ends)
        return [reached[node] + math.log1p(-self._taken(node, ends, reached)) for node in self._ends]

    def _taken(self, end: int, ends: set[int], reached: list[float]) -> float:
        """The share of what begins like an option that begins like a longer one."""
        share, waiting = 0.0, list(self.children[end].values())
        while waiting:
            node = waiting.pop()
            if node in ends:
                share += math.exp(reached[node] - reached[end])
            else:
                waiting += self.children[node].values()
        return min(share, _ALL)

    def _grow(self, parent: int, token: int) -> int:
        self.parents.append(parent)
        self.tokens.append(token)
        self.children.append({})
        self.children[parent][token] = len(self.parents) - 1
        return len(self.parents) - 1


def normalised(log_probabilities: Sequence[float]) -> list[float]:
    """Probabilities that add up to 1, in the proportions of the exponentials."""
    most = max(log_probabilities)
    shares = [math.exp(value - most) for value in log_probabilities]
    total = math.fsum(shares)
    return [share / total for share in shares]
