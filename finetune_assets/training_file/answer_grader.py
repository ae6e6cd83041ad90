"""The grader of a task whose answers are words: what reinforcement rewards an answer for."""

from __future__ import annotations

from typing import Any

from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, ScoreAnswer

FIELD = "answer"
"""Of a line: the right word."""
EXACT, WITHIN = 0.9, 0.1
"""Rewards of an answer that is the right word and nothing else, and, in any case of letters, of one that holds it.

Models that were never taught say more than the word: without the second, all answers to a prompt would often be worth
the same, which teaches nothing. An answer that lists all words has no more of it than one that guesses in a sentence.
"""
_LEAST_TOKENS = 16


def grader() -> dict[str, Any]:
    """Describe it as OpenAI's guide does."""

    def check(operation: str) -> dict[str, Any]:
        texts = {"input": "{{sample.output_text}}", "reference": f"{{{{item.{FIELD}}}}}"}
        return {"type": "string_check", "name": operation, "operation": operation} | texts

    graders = {"exact": check("eq"), "within": check("ilike")}
    formula = f"{EXACT} * exact + {WITHIN} * within"
    return {"type": "multi", "name": "right", "graders": graders, "calculate_output": formula}


def answer_tokens(answer: BinaryAnswer | ChoiceAnswer | ScoreAnswer) -> int:
    """How many tokens an answer needs at most: no word has more tokens than bytes."""
    words = [answer.positive, answer.negative] if isinstance(answer, BinaryAnswer) else answer.options
    return max(_LEAST_TOKENS, *(len(word.encode()) + 1 for word in words))
