from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from finetune_assets.server.generation.tokens import TextStream, TokenTexts
from finetune_assets_tests.server.families.building import make_tokenizer
from finetune_assets_tests.tiny_models import write_text_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(write_text_model(tmp_path_factory.mktemp("models") / "text"))


@pytest.fixture(scope="module")
def texts(tokenizer: Any) -> TokenTexts:
    return TokenTexts(tokenizer)


@given(text=st.text(max_size=40))
def test_the_bytes_of_a_texts_tokens_are_the_texts_bytes(tokenizer: Any, texts: TokenTexts, text: str) -> None:
    text = text.encode("utf-8", errors="replace").decode()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if "<|" not in text:
        assert b"".join(texts.of(token)[1] for token in ids) == text.encode()


def test_an_id_outside_the_vocabulary_has_no_text(texts: TokenTexts) -> None:
    assert texts.of(10_000_000) == ("", b"")


def test_a_special_token_has_a_name_and_adds_nothing(tokenizer: Any, texts: TokenTexts) -> None:
    assert texts.of(tokenizer.convert_tokens_to_ids("<|im_end|>")) == ("<|im_end|>", b"")


@given(data=st.data())
def test_bytes_that_are_no_characters_end_no_answer(pieces: Any, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=12))
    stream = TextStream(pieces)
    told = "".join(map(stream.add, ids)) + stream.rest()
    assert len(told) == len(pieces.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def test_bytes_that_make_no_character_of_those_before_them_are_told_as_replaced(pieces: Any) -> None:
    stream = TextStream(pieces)
    ids = pieces.convert_tokens_to_ids(["<0x52>", "<0xFF>", "C"])
    assert [stream.add(token) for token in ids] == ["R", "", "\ufffdC"]
    assert stream.rest() == ""


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer like SentencePiece's."""
    folder: Path = tmp_path_factory.mktemp("pieces")
    return make_tokenizer(folder, ("<s>", "</s>"), None, pieces=True)
