"""Training of larger language models as the server loads them: tokens a second, share of the arithmetic, memory.

    python benchmarks/training_gpu.py --size {tiny,135m,1b,7b} [--chats {long,short}] [--batch N] [--steps N]

Ours, TRL padded, TRL packed and a plain loop of compiled layers over full rows, each in a process of its own, one after
the other, on the same random weights (a folder in Hugging Face format, with the bundled tokenizer), the same chats and
the same LoRA layers. Clocks run from the fourth step on: the first ones choose kernels and compile. Tokens are those of
the chats, without padding. `--size tiny` runs on a CPU in a few minutes; larger ones want a GPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import torch

from finetune_assets.server.base_models import SHARE, TEXT_MODEL, BaseModel
from finetune_assets.server.model import adapters
from finetune_assets.server.model.chat_encoding import ImageFeatures, Sequence, encode_conversation
from finetune_assets.server.model.network import hollow, load
from finetune_assets.server.model.precision import device_and_dtype
from finetune_assets.server.training.hyperparameters import LEARNING_RATES, Optimiser
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.watcher import Progress, Watcher

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
"""Dense bfloat16 arithmetic of data-centre GPUs, from NVIDIA's data sheets."""
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8},
    "7b": {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "tie_word_embeddings": False},
}  # fmt: skip
"""Llamas of 7.4 billion weights and less."""
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""That learn: the server's choice for models that are not bundled."""
LEARNING_RATE = LEARNING_RATES["supervised"]["lora"]
WARM_UP = 3
FULL_ROW, PACK = 2048, 8192
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Race:
    """What all run on."""

    folder: str
    chats: list[dict[str, Any]]
    batch: int
    steps: int

    @property
    def base(self) -> BaseModel:
        """The model, as a line of `models.yaml` names one."""
        return BaseModel("random", self.folder, vision=False)

    def sequences(self) -> list[Sequence]:
        """The chats as tokens, by the server's own encoding."""
        network = hollow(self.base)
        features = ImageFeatures(network)
        return [made for chat in self.chats for made in encode_conversation(network, chat["messages"], features)]


@dataclass
class Clock:
    """Notes when steps end."""

    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def tick(self, loss: float | None = None) -> None:
        """A step is over."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        if loss is not None:
            self.losses.append(loss)

    def steps_per_second(self) -> float:
        """After the first steps."""
        return (len(self.ends) - WARM_UP) / (self.ends[-1] - self.ends[WARM_UP - 1])


class OurClock(Watcher):
    """Watches our training."""

    def __init__(self) -> None:
        self.clock = Clock()

    def note(self, message: str, level: str = "info") -> None:  # noqa: ARG002
        """Say how the server trains it."""
        print(f"    {message}", flush=True)

    def stepped(self, progress: Progress) -> None:
        """A step was made."""
        self.clock.tick(progress.train_loss)


def ours(race: Race) -> Clock:
    """The server's own loop, from a file to published weights."""
    folder = Path(tempfile.mkdtemp())
    (folder / "train.jsonl").write_bytes(b"\n".join(map(orjson.dumps, race.chats)))
    watch = OurClock()
    request = TrainingRequest(
        base=race.base, adapter=None, training_file=folder / "train.jsonl", validation_file=None, output=folder,
        state=folder / "state", n_epochs=1, batch_size=race.batch, learning_rate_multiplier="auto",
        learning_rate=LEARNING_RATE, seed=0,
    )  # fmt: skip
    train(request, watch)
    shutil.rmtree(folder)
    return watch.clock


def trl(race: Race, *, packing: bool = False) -> Clock:
    """TRL with its defaults but for gradient checkpointing, as many tokens a step as ours."""
    from datasets import Dataset
    from peft import LoraConfig
    from training import as_row, be_quiet
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    be_quiet()
    clock, (device, dtype) = Clock(), device_and_dtype()

    class Ticks(TrainerCallback):
        def on_step_end(self, *_arguments: Any, **_values: Any) -> None:
            clock.tick()

    sequences = race.sequences()
    a_step = sum(len(sequence.ids) for sequence in sequences) // race.steps
    pack = min(PACK, a_step)
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(), num_train_epochs=1, learning_rate=LEARNING_RATE, packing=packing,
        per_device_train_batch_size=a_step // pack if packing else race.batch, max_length=pack if packing else None,
        bf16=dtype == torch.bfloat16, use_cpu=device.type == "cpu",
        gradient_checkpointing=False, report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1000,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(race.folder, dtype=dtype), args=config,
        train_dataset=Dataset.from_list([as_row(sequence) for sequence in sequences]),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=LAYERS, task_type="CAUSAL_LM"),
        processing_class=AutoTokenizer.from_pretrained(race.folder), callbacks=[Ticks()],
    )  # fmt: skip
    trainer.train()
    return clock


def trl_packed(race: Race) -> Clock:
    """The same with its packing, into rows of 8,192 tokens at most."""
    return trl(race, packing=True)


def compiled(race: Race) -> Clock:
    """Full rows that mix chats, each layer compiled, logits only where learned: what a loop could reach."""
    network = load(race.base)
    trained = adapters.add_trainable(network, None, with_images=False)
    for layer in network.decoder.layers:
        layer.compile()
    sequences = race.sequences()
    ids = torch.tensor([token for sequence in sequences for token in sequence.ids])
    learned = torch.tensor([on for sequence in sequences for on in sequence.learned])
    row = min(FULL_ROW, len(ids) // race.steps)
    rows = max(1, len(ids) // race.steps // row)
    clock, optimiser = Clock(), Optimiser(trained, "supervised", 1.0, race.steps, {"learning_rate": LEARNING_RATE})
    for step in range(1, race.steps + 1):
        place = slice((step - 1) * rows * row, step * rows * row)
        batch = ids[place].view(rows, row).to(network.device)
        wanted = learned[place].view(rows, row).to(network.device)[:, 1:]
        states = network.decoder(inputs_embeds=network.embedding(batch[:, :-1]), use_cache=False).last_hidden_state
        loss = torch.nn.functional.cross_entropy(network.logits(states[wanted]), batch[:, 1:][wanted])
        loss.backward()
        optimiser.step(step)
        clock.tick(loss.item())
    return clock


WAYS: dict[str, Callable[[Race], Clock]] = {
    "ours": ours, "TRL": trl, "TRL with packing": trl_packed, "compiled layers": compiled,
}  # fmt: skip


def run(way: str, race: Race, answers: Any) -> None:
    """One of them, in its own process."""
    clock = WAYS[way](race)
    cuda = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answers.put((clock.steps_per_second(), len(clock.ends), clock.losses, peak))


def write_model(folder: Path, size: str) -> None:
    """Random weights of this size, with the bundled model's tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    bundled = json.loads((SHARE / TEXT_MODEL / "config.json").read_text())
    config = LlamaConfig(**{**bundled, "head_dim": None, **SIZES[size]})
    device, dtype = device_and_dtype()
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(SHARE / TEXT_MODEL).save_pretrained(folder)


def talks(n: int, kind: str) -> list[dict[str, Any]]:
    """Chats of about 1,500 tokens, or short ones of 30 to 450."""
    from training import chats

    if kind == "short":
        return chats(n)
    pieces = iter(chats(8 * n, seed=1))
    return [{"messages": [message for _ in range(8) for message in next(pieces)["messages"]]} for _ in range(n)]


def measure(size: str, chats: str, batch: int, steps: int) -> None:
    """Let all of them train, and print what they reach."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), size)
        race = Race(folder, talks(batch * steps, chats), batch, steps)
        network, sequences = hollow(race.base), race.sequences()
        tokens = sum(len(sequence.ids) for sequence in sequences)
        learned = sum(sum(sequence.learned) for sequence in sequences)
        decoder = sum(p.numel() for p in network.decoder.parameters()) - network.embedding.weight.numel()  # pyright: ignore
        # Weights are frozen: a forward pass, and a backward pass for activations only; logits only where learned.
        flops = 4 * (decoder * tokens + network.head.weight.numel() * learned)
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        peak_flops = next((value for key, value in PEAK_FLOPS.items() if key in name), None)
        print(f"{size}: {decoder / 1e9:.3f} billion decoder weights on {name} in {device_and_dtype()[1]},")
        print(f"  {len(sequences)} {chats} chats of {tokens / len(sequences):,.0f} tokens, {batch} a step", flush=True)
        for way in WAYS:
            speed, n_steps, losses, peak = alone(way, race)
            seconds = n_steps / speed
            share = f"{flops / seconds / peak_flops:6.1%} of peak" if peak_flops else ""
            lost = f"loss {losses[0]:.3f} to {losses[-1]:.3f}" if losses else ""
            print(f"  {way:18} {tokens / seconds:10,.0f} tokens/s {share} {peak / 2**30:6.1f} GiB  {lost}", flush=True)


def alone(way: str, race: Race) -> tuple[float, int, list[float], int]:
    """Run one of them in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    answers = SPAWN.Queue()
    process = SPAWN.Process(target=run, args=[way, race, answers])
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{way} failed; see above")
    return answers.get()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, help="7b on a GPU otherwise, nothing on a CPU")
    parser.add_argument("--chats", choices=["long", "short"], default="long")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    size = arguments.size or ("7b" if torch.cuda.is_available() else None)
    if size is None:
        print("training on a GPU: skipped, there is no CUDA device here (--size tiny runs on a CPU)")
        return
    measure(size, arguments.chats, arguments.batch, arguments.steps)


if __name__ == "__main__":
    main()
