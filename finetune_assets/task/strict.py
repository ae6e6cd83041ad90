"""What all parts of a task's YAML are made of."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Immutable, and closed to keys it does not know. What stands under a key is its description in the schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, found: Any) -> Any:
        # To pydantic `Yes`, which YAML reads as true, is the number 1; as a text it is none.
        if not isinstance(found, dict):
            return found
        numbers = {name for name, field in cls.model_fields.items() if _takes_a_number(field.annotation)}
        return {key: str(value).lower() if type(value) is bool and key in numbers else value
                for key, value in found.items()}  # fmt: skip


def _takes_a_number(kind: Any) -> bool:
    return kind in (int, float) or any(map(_takes_a_number, get_args(kind)))


def _a_text(found: object) -> object:
    if isinstance(found, bool):
        raise ValueError("YAML reads Yes, No, on and off as true and false; put the word in quotes")
    if isinstance(found, int | float):
        raise ValueError(f'must be a text; put it in quotes: "{found}"')
    return found


def _no_blanks_around(text: str) -> str:
    unseen = {sign for sign in text if sign.isspace() or not sign.isprintable()}
    bare = text.strip("".join(unseen))
    if text and not bare:
        raise ValueError("is nothing but blanks; write the word that is answered")
    if text != bare:
        raise ValueError(f"begins or ends with a blank, which would be learned as part of it; write {bare!r}")
    return text


Text = Annotated[str, BeforeValidator(_a_text)]
"""A text, where YAML might have made something else of it."""
Word = Annotated[Text, Field(min_length=1), AfterValidator(_no_blanks_around)]
