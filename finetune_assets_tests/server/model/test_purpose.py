"""What was not made to write text is refused by name, though transformers would load it as if it were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.errors import UnfitModelError
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model.network import load
from finetune_assets_tests.server.families.building import CHATML, make_tokenizer, save
from finetune_assets_tests.server.networks import text_base
from finetune_assets_tests.tiny_models import CHAT_TEMPLATE

_LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_HALVES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4,
}  # fmt: skip
_DECODER = _HALVES | {"is_encoder_decoder": False}
_TIED = _LAYERS | {"num_key_value_heads": 2, "tie_word_embeddings": True}
KINDS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "T5": ("t5", "AutoModelForSeq2SeqLM", {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 8},
           "has an encoder"),
    "Whisper": ("whisper", "AutoModelForSpeechSeq2Seq", _HALVES, "has an encoder"),
    "Whisper's decoder": ("whisper", "AutoModelForCausalLM", _DECODER, r"\(WhisperForCausalLM\) .*attend to an enc"),
    "BART's decoder": ("bart", "AutoModelForCausalLM", _DECODER, r"\(BartForCausalLM\) .* attend to an encoder"),
    "BERT": ("bert", "AutoModelForMaskedLM", _LAYERS, "was saved as BertForMaskedLM; .* only BertLMHeadModel"),
    "ModernBERT": ("modernbert", "AutoModelForMaskedLM", _LAYERS, "is ModernBertForMaskedLM, which writes no text"),
    "CLIP": ("clip", "AutoModel", {"text_config": _LAYERS, "vision_config": _LAYERS}, "is CLIPModel, which writes no"),
    "classifier": ("qwen2", "AutoModelForSequenceClassification", _TIED, "saved as Qwen2ForSequenceClassification"),
    "tagger": ("qwen2", "AutoModelForTokenClassification", _TIED, "was saved as Qwen2ForTokenClassification"),
    "embedder": ("qwen2", "AutoModel", _TIED, "was saved as Qwen2Model; of its kind only Qwen2For"),
}  # fmt: skip


def written(folder: Path, kind: str, saved_as: str, **settings: Any) -> BaseModel:
    """A model of this kind, with a tokenizer and a template of one that chats."""
    import transformers

    tokenizer, target = make_tokenizer(folder, CHATML, CHAT_TEMPLATE), folder / "model"
    tokenizer.save_pretrained(target)
    ends = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    starts = {"bos_token_id": 0, "decoder_start_token_id": 0}
    config = transformers.AutoConfig.for_model(kind, **ends | starts | settings)
    save(getattr(transformers, saved_as).from_config(config), target)
    return BaseModel("odd", str(target), vision=False)


@pytest.mark.parametrize("name", KINDS)
def test_a_model_that_does_not_write_is_refused_with_what_it_is(tmp_path: Path, name: str) -> None:
    kind, saved_as, settings, told = KINDS[name]
    with pytest.raises(UnfitModelError, match=f"the base model 'odd' .*{told}"):
        load(written(tmp_path, kind, saved_as, **settings))


def test_an_embedding_model_that_is_saved_as_one_that_writes_is_known_by_its_pooling(tmp_path: Path) -> None:
    base = text_base(tmp_path)
    steps = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (Path(base.path) / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(UnfitModelError, match="'tiny-text' makes vectors of texts"):
        load(base)


def test_the_makers_own_spelling_of_a_class_is_no_other_class(tmp_path: Path) -> None:
    base = text_base(tmp_path)
    config = Path(base.path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": ["LLaMA_ForCausalLM"]}))
    assert type(load(base).model).__name__ == "LlamaForCausalLM"
