"""A model that runs by its own forward goes on token by token, whatever way of choosing tokens its makers suggest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_assets.server.model.network import load
from finetune_assets.server.model.own_forward import Continuation, logits_at
from finetune_assets_tests.server.families import text_model

SUGGESTED: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 4, "num_return_sequences": 3, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "groups of beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.3},
    "a static cache": {"cache_implementation": "static", "max_length": 10},
    "no cache": {"use_cache": False},
    "contrastive search": {"penalty_alpha": 0.6, "top_k": 4},
    "looking up": {"prompt_lookup_num_tokens": 4},
    "stops": {"stop_strings": ["x"], "token_healing": True, "guidance_scale": 2.0},
    "sampling": {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": 4},
}


@pytest.mark.parametrize("how", SUGGESTED)
@pytest.mark.usefixtures("in_float32")
def test_a_suggested_way_of_choosing_tokens_changes_no_logits(tmp_path: Path, how: str) -> None:
    base = text_model("Falcon-H1", tmp_path)
    file = Path(base.path) / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | SUGGESTED[how]))
    network = load(base)
    ids = torch.arange(20, 60)
    with torch.inference_mode():
        grown = Continuation(network.model, ids[:30], {})
        steps = torch.stack([grown.step(), *(grown.step(int(token)) for token in ids[30:])])
        torch.testing.assert_close(steps, logits_at(network.model, ids, {}, torch.arange(29, 40)), atol=1e-4, rtol=1e-4)
    assert network.end_ids == {network.tokenizer.eos_token_id}
