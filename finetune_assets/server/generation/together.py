"""Answers to many requests at once, in the caller's own thread.

Unlike the engine, which takes in what arrives when it does, the same requests give the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from finetune_assets.server.generation.completion import Completion
from finetune_assets.server.generation.reader import AnsweringModel, Asked
from finetune_assets.server.generation.requests import GenerationRequest
from finetune_assets.server.model.chat_template import PromptError


def answered(model: AnsweringModel, requests: Sequence[GenerationRequest]) -> list[Completion | PromptError]:
    """Answer requests together: of each the completion, whose future is done, or why the model cannot take it.

    Raises:
        BaseModelError: the model fails, or the adapter of a request cannot be loaded.
    """
    found: list[Completion | PromptError] = []
    for request in requests:
        try:
            found.append(model.prepare(Asked(request, Future(), None)))
        except PromptError as error:
            found.append(error)
    begun = [completion for completion in found if isinstance(completion, Completion)]
    for completion in begun:
        model.batch.add(completion)
    while model.batch.busy:
        model.batch.step(_on_the_same_threads)
    for completion in begun:
        completion.future.result()
    return found


def _on_the_same_threads(_tokens: int) -> None:
    """Leave the number of threads as it is."""
