"""One line of a training file, read."""

from __future__ import annotations

from typing import NamedTuple

from finetune_assets.training_file.messages import Message
from finetune_assets.training_file.tools import NO_TOOLS, Tools


class Example(NamedTuple):
    """What a line says, or what could be read of it."""

    messages: list[Message]
    """A whole conversation; of a preference pair and for reinforcement, what the assistant is to answer."""
    tools: Tools = NO_TOOLS
    outputs: tuple[Message, ...] = ()
    """Of a preference pair, the better answer and the other."""

    @property
    def every_message(self) -> list[Message]:
        """All messages, answers included."""
        return [*self.messages, *self.outputs] if self.outputs else self.messages
