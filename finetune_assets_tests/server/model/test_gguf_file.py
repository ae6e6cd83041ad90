"""What is written for llama.cpp is the model: the same weights, tokens and probabilities; other models are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_assets.errors import ExportError
from finetune_assets.server.model import gguf_file
from finetune_assets_tests.server.families import text_model

TEXTS = ("What is 3 plus four? Yes No", "Über 12345, isn't it?\n\n  Two  spaces\t<|im_start|>user")
FORMS = ["Llama 3.1", "Llama 3.2", "Qwen2.5", "Qwen3"]


def loaded(name: str, folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = text_model(name, folder)
    model: Any = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(base.path)


@torch.no_grad()
def next_token(model: Any, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("name", ["Llama 3.1", "Qwen3"])
def test_weights_are_read_back_as_they_were(tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    model, tokenizer = loaded(name, tmp_path)
    gguf_file.write(model, tokenizer, tmp_path / "model.gguf", name)
    read: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", config=model.config, dtype=torch.float32
    )
    ids = tokenizer(TEXTS[0]).input_ids
    assert torch.equal(next_token(read.eval(), ids), next_token(model, ids))


@pytest.mark.parametrize("name", FORMS)
def test_llama_cpp_reads_the_same_tokens_and_probabilities(tmp_path: Path, name: str) -> None:
    llama_cpp = pytest.importorskip("xllamacpp")
    model, tokenizer = loaded(name, tmp_path)
    gguf_file.write(model, tokenizer, tmp_path / "model.gguf", name)
    how = llama_cpp.CommonParams()
    how.model.path, how.n_ctx, how.warmup = str(tmp_path / "model.gguf"), 512, False
    server = llama_cpp.Server(how)
    for text in TEXTS:
        said = server.handle_completions({"prompt": text, "max_tokens": 1, "temperature": 0, "logprobs": 5})
        ids = tokenizer(text).input_ids
        expected = next_token(model, ids)
        assert said["usage"]["prompt_tokens"] == len(ids)
        found = said["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        assert [token["id"] for token in found] == expected.topk(5).indices.tolist()
        # It keeps keys and values in 16 bits.
        assert [token["logprob"] for token in found] == pytest.approx(expected.topk(5).values.tolist(), abs=1e-2)


@pytest.mark.parametrize(
    ("name", "why"),
    [("Granite", "it is of the kind 'granite'"), ("Llama 2", "its tokenizer is not of bytes"),
     ("Mistral", "it sees a window"), ("Phi-3 with LongRoPE", "it is of the kind 'phi3'")],
)  # fmt: skip
def test_what_llama_cpp_would_read_otherwise_is_refused_with_what_to_do(tmp_path: Path, name: str, why: str) -> None:
    model, tokenizer = loaded(name, tmp_path)
    with pytest.raises(ExportError, match=f"'mine' cannot be written as GGUF: {why}.*--merged.*convert_hf_to_gguf.py"):
        gguf_file.write(model, tokenizer, tmp_path / "model.gguf", "mine")
    assert not (tmp_path / "model.gguf").exists()


def test_a_tokenizer_that_cuts_texts_in_a_way_of_its_own_is_refused(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    model, tokenizer = loaded("Qwen2", tmp_path)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), byte_level])
    with pytest.raises(ExportError, match="its tokenizer cuts texts in a way that has no name in llama.cpp"):
        gguf_file.check(model.config, tokenizer, "mine")
