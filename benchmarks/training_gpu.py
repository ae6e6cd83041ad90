"""Training speed of a 2-billion-parameter vision-language architecture with random weights, on one CUDA device.

Prints tokens a second and the share of the device's arithmetic that they use. The model is Qwen2-VL-2B's configuration,
which needs no download; the loop, the LoRA layers and the batches are the server's. Skipped where there is no CUDA.
"""

from __future__ import annotations

import random
import time
from types import SimpleNamespace
from typing import Any

import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.precision import device_and_dtype
from finetune_assets.server.training.examples import Example
from finetune_assets.server.training.hyperparameters import Optimiser
from finetune_assets.server.training.loop import TOKENS_AT_ONCE, Run, learn
from finetune_assets.server.training.objectives import Supervised

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
"""Dense bfloat16 arithmetic of data-centre GPUs, from NVIDIA's data sheets."""
IMAGE_SLOTS, TEXT_TOKENS, ANSWER_TOKENS = 256, 400, 60
STEPS, BATCH = 12, 16


def network_of(config: Any) -> Network:
    """Random weights of the configuration's architecture, taken apart as a loaded model is."""
    from transformers import AutoModelForImageTextToText

    device, dtype = device_and_dtype()
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    model.eval().requires_grad_(False)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    base = BaseModel("random", "random", vision=True)
    # The examples bring their image features along, in the decoder's width: nothing is left to project or to encode.
    seen: Any = SimpleNamespace(marker="", projector=torch.nn.Identity())
    unused: Any = None  # the examples are token ids already
    decoder = model.model.language_model
    return Network(base, model, unused, unused, set(), embedding, decoder, head, seen, 32_768)


def examples_of(n: int, width: int) -> list[Example]:
    """Examples of one image, a question and an answer, with random ids."""
    rng = random.Random(0)
    made = []
    for _ in range(n):
        ids = [-1] * IMAGE_SLOTS + rng.choices(range(1000), k=TEXT_TOKENS + rng.randint(0, 100))
        learned = torch.arange(len(ids)) >= len(ids) - ANSWER_TOKENS
        made.append(Example(torch.tensor(ids, dtype=torch.int32), learned, [torch.randn(IMAGE_SLOTS, width)]))
    return made


def measure() -> None:
    """Print tokens a second and model-flops utilisation, or why not."""
    if not torch.cuda.is_available():
        print("training on a GPU: skipped, there is no CUDA device here")
        return
    from transformers import Qwen2VLConfig

    config = Qwen2VLConfig(
        text_config={"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
                     "num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 32_768,
                     "tie_word_embeddings": True},
        vision_config={"hidden_size": 1536},
        tie_word_embeddings=True,
    )  # fmt: skip
    report(network_of(config), config.get_text_config().hidden_size)


def report(network: Network, width: int) -> None:
    """Train for some steps and print how fast that was."""
    examples = examples_of(BATCH * STEPS, width)
    decoder = sum(p.numel() for p in network.decoder.parameters()) - network.embedding.weight.numel()  # pyright: ignore
    trained = adapters.add_trainable(network, None, with_images=False)
    objective = Supervised(network, TOKENS_AT_ONCE[network.device.type])
    settings: dict[str, int | float] = {"n_epochs": 1, "batch_size": BATCH, "learning_rate_multiplier": 1.0}
    optimiser = Optimiser(trained, "supervised", 1.0, STEPS)
    run = Run(network, objective, examples, [], settings, optimiser, seed=0)
    tokens = learned = 0
    begun = time.perf_counter()
    for step, _epoch, batch in run.steps(0):
        if step == 3:  # the first steps choose kernels
            tokens = learned = 0
            begun = time.perf_counter()
        learn(run, batch, step)
        tokens += sum(map(len, batch))
        learned += sum(map(objective.count, batch))
    seconds = time.perf_counter() - begun
    # Weights are frozen: a forward pass, and a backward pass for activations only; logits only where they are learned.
    flops = 4 * (decoder * tokens + network.head.weight.numel() * learned) / seconds
    name = torch.cuda.get_device_name() if network.device.type == "cuda" else "CPU"
    peak = next((value for key, value in PEAK_FLOPS.items() if key in name), None)
    used = f", {flops / peak:.1%} of its {peak / 1e12:.0f} TFLOP/s" if peak else ""
    print(f"{decoder / 1e9:.2f} billion decoder parameters on {name} in {network.dtype}:")
    print(f"  {tokens / seconds:,.0f} tokens/s, {flops / 1e12:.1f} TFLOP/s{used}")


if __name__ == "__main__":
    measure()
