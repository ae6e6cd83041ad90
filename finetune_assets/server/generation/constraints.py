"""Answers that fit a JSON schema or a grammar: which tokens may come next, by llguidance."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import llguidance.hf
import numpy as np
import orjson
import torch
from llguidance import LLMatcher, LLParserLimits
from llguidance.numpy import fill_next_token_bitmask
from torch import Tensor

from finetune_assets.server.generation.answer_grammar import LAYOUT
from finetune_assets.server.model.chat_encoding import PromptError

_KEPT = 64
"""Compiled schemas; a few hundred kilobytes each."""


class Grammars:
    """Matchers over one model's vocabulary; schemas and grammars used again are not compiled again."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: set[int]) -> None:
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=sorted(end_ids))
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def matcher(self, schema: dict[str, Any]) -> LLMatcher:
        """A fresh matcher that takes in the tokens of one answer.

        Raises:
            PromptError: the schema is wrong, or asks for something that cannot be enforced.
        """
        return self._kept(LLMatcher.grammar_from_json_schema(orjson.dumps(schema).decode(), overrides=LAYOUT))

    def of_answer(self, grammar: str) -> LLMatcher:
        """The same for an answer with calls or thoughts (see `answer_grammar`), whose schemas were looked at before."""
        return self._kept(LLMatcher.grammar_from_lark(grammar))

    def _kept(self, grammar: str) -> LLMatcher:
        if grammar not in self._compiled:
            self._compiled[grammar] = self._compile(grammar)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        return self._compiled[grammar].deep_copy()

    def _compile(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
        if matcher.is_error():
            message = f"Invalid schema for response_format: {matcher.get_error()}"
            raise PromptError(message, "invalid_json_schema", "response_format")
        return matcher


def forbid(logits: Tensor, matchers: list[tuple[int, LLMatcher]]) -> None:
    """Set the logits of tokens that a row's matcher does not take to minus infinity.

    Args:
        logits: `[n, vocabulary]`, changed in place.
        matchers: (row, matcher) of the rows that have one.
    """
    vocabulary = logits.shape[-1]
    words = np.zeros((1, (vocabulary + 31) // 32), dtype=np.int32)
    for row, matcher in matchers:
        fill_next_token_bitmask(matcher, words)
        allowed = np.unpackbits(words.view(np.uint8), bitorder="little")[:vocabulary]
        logits[row].masked_fill_(torch.from_numpy(allowed == 0).to(logits.device), float("-inf"))
