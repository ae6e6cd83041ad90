"""The only room that reads an answer: an expert's label, a reviewer's judgement, a model's free text.

What cannot be read for certain is None, never a guess.
"""

from finetune_assets.dataset.answer_reading.labels import (
    Label,
    begun_with,
    label,
    mentioned,
    normal,
    read_binary,
    read_choice,
    read_number,
    read_text,
    render,
    spelled,
    wanted,
)
from finetune_assets.dataset.answer_reading.number_format import NumberFormat, parse_number

__all__ = [
    "Label",
    "NumberFormat",
    "begun_with",
    "label",
    "mentioned",
    "normal",
    "parse_number",
    "read_binary",
    "read_choice",
    "read_number",
    "read_text",
    "render",
    "spelled",
    "wanted",
]
