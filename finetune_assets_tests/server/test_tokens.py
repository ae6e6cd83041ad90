from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from finetune_assets.server.tokens import token_bytes
from finetune_assets_tests.tiny_models import write_text_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(write_text_model(tmp_path_factory.mktemp("models") / "text"))


@given(text=st.text(max_size=40))
def test_the_bytes_of_a_texts_tokens_are_the_texts_bytes(tokenizer: Any, text: str) -> None:
    text = text.encode("utf-8", errors="replace").decode()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if not set(ids) & set(tokenizer.all_special_ids):
        assert b"".join(token_bytes(tokenizer, token) for token in ids) == text.encode()


def test_an_id_outside_the_vocabulary_has_no_bytes(tokenizer: Any) -> None:
    assert token_bytes(tokenizer, 10_000_000) == b""


def test_a_special_token_is_its_own_text(tokenizer: Any) -> None:
    assert token_bytes(tokenizer, tokenizer.convert_tokens_to_ids("<|im_end|>")) == b"<|im_end|>"
