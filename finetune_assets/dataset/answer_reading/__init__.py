"""The only room that reads an answer: an expert's label, a reviewer's judgement, a model's free text.

`read_answer` returns the value and the place where it stands; what cannot be read for certain is None, never a guess.
"""

from finetune_assets.dataset.answer_reading.answer_text import normal
from finetune_assets.dataset.answer_reading.calls import parts_of, read_call, same_call
from finetune_assets.dataset.answer_reading.labels import Label, label, read_number, render, wanted, why_no_label
from finetune_assets.dataset.answer_reading.number_format import WAYS_OF_WRITING, NumberFormat, parse_number
from finetune_assets.dataset.answer_reading.numbers import unit_said
from finetune_assets.dataset.answer_reading.reading import ReadAnswer, options_of, read_answer, without_reasoning
from finetune_assets.dataset.answer_reading.sentences import says_not
from finetune_assets.dataset.answer_reading.words import stands_in

__all__ = [
    "WAYS_OF_WRITING",
    "Label",
    "NumberFormat",
    "ReadAnswer",
    "label",
    "normal",
    "options_of",
    "parse_number",
    "parts_of",
    "read_answer",
    "read_call",
    "read_number",
    "render",
    "same_call",
    "says_not",
    "stands_in",
    "unit_said",
    "wanted",
    "why_no_label",
    "without_reasoning",
]
