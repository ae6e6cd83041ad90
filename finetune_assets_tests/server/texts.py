"""Texts as models write them, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from finetune_assets.server.model.control_tokens import SIGNS

_SIGNS = "".join(map(chr, SIGNS))
"""U+FDD0 to U+FDEF are no characters: they stand for the marks of an answer's form, and no answer has them."""


def texts(*, but: str = "", min_size: int = 0, max_size: int) -> st.SearchStrategy[str]:
    """Any text without surrogates, those signs and the characters of `but`."""
    allowed = st.characters(exclude_categories=["Cs"], exclude_characters=_SIGNS + but)
    return st.text(allowed, min_size=min_size, max_size=max_size)
