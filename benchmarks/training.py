"""Training tokens a second against TRL's SFTTrainer: same model, examples, LoRA layers, precision and machine.

All trainers take turns, a step each, so that whatever else the machine does slows each of them alike.
Counted are the tokens of the examples learned from; the clock of ours runs from the moment the model is loaded (files
are read and images looked at on it), TRL's only while it trains on tokens made beforehand. TRL runs twice on text, with
and without packing, and counts with the better one. It keeps its defaults but for gradient checkpointing, which would
cost it a third more work.

    python benchmarks/training.py [--text | --vision] [--threads N] [--examples N]
    python benchmarks/training.py --gpu-model SIZE       larger random weights, by `training_gpu.py`
"""

from __future__ import annotations

import argparse
import base64
import io
import logging
import multiprocessing
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import orjson
import torch
import transformers
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaModel, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from finetune_assets.server.base_models import SHARE, TEXT_MODEL, VISION_MODEL, BaseModel
from finetune_assets.server.model.adapters import LORA_RANK
from finetune_assets.server.model.chat_encoding import ImageFeatures, Sequence, encode_conversation
from finetune_assets.server.model.network import load
from finetune_assets.server.model.precision import device_and_dtype
from finetune_assets.server.model.vision import PIXELS, BundledVision, patches
from finetune_assets.server.training.hyperparameters import LEARNING_RATES
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.watcher import Progress, Watcher

TEXT = BaseModel(TEXT_MODEL, str(SHARE / TEXT_MODEL), vision=False)
VISION = BaseModel(VISION_MODEL, str(SHARE / TEXT_MODEL), vision=True)
WORDS = "the cell is cracked bright dark finger broken region weather price report model water light line first".split()  # noqa: SIM905
Example = dict[str, Any]
SPAWN = multiprocessing.get_context("spawn")


class Turns:
    """Lets processes take a step in turn, and keeps the time of each.

    Processes, because threads of one process would share OpenMP's pool of threads, and slow each other down by that.
    """

    def __init__(self, n: int) -> None:
        self.changed = SPAWN.Condition()
        self.current = SPAWN.Value("i", 0, lock=False)
        self.gone = SPAWN.Array("b", n, lock=False)
        self.seconds = SPAWN.Array("d", n, lock=False)

    def pass_on(self) -> None:
        """To the next that still takes part."""
        places = [(self.current.value + k) % len(self.gone) for k in range(1, len(self.gone) + 1)]
        self.current.value = next((place for place in places if not self.gone[place]), -1)
        self.changed.notify_all()


class Turn:
    """One trainer's place among the turns, in its own process."""

    def __init__(self, turns: Turns, place: int) -> None:
        self._turns = turns
        self._place = place
        self._since = 0.0

    def wait(self) -> None:
        """Until it is this trainer's turn; its clock starts."""
        with self._turns.changed:
            self._turns.changed.wait_for(lambda: self._turns.current.value == self._place)
        self.restart_clock()

    def restart_clock(self) -> None:
        """What this turn has taken so far, to load a model for example, does not count."""
        self._since = time.perf_counter()

    def end(self) -> None:
        """Stop the clock and let the others take their turn."""
        self._turns.seconds[self._place] += time.perf_counter() - self._since
        with self._turns.changed:
            self._turns.pass_on()
        self.wait()

    def leave(self) -> None:
        """Stop the clock and take no more turns."""
        self._turns.seconds[self._place] += time.perf_counter() - self._since
        with self._turns.changed:
            self._turns.gone[self._place] = 1
            self._turns.pass_on()


class OurTurns(Watcher):
    """Watches our training: a turn is a step. The clock starts anew once the model is loaded."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def note(self, message: str, level: str = "info") -> None:  # noqa: ARG002
        """The first note comes when the model is loaded."""
        if message.startswith("Training on"):
            self._turn.restart_clock()

    def stepped(self, progress: Progress) -> None:  # noqa: ARG002
        """End the turn."""
        self._turn.end()


class TheirTurns(TrainerCallback):
    """The same for TRL."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def on_step_end(self, *_arguments: Any, **_values: Any) -> None:
        """End the turn."""
        self._turn.end()


def chats(n: int, seed: int = 0) -> list[Example]:
    """Conversations of one to four questions, 30 to 450 tokens."""
    rng = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, most)))

    def turns() -> list[dict[str, str]]:
        pairs = [(text(60), text(60)) for _ in range(rng.randint(1, 4))]
        return [m for q, a in pairs for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]

    return [{"messages": turns()} for _ in range(n)]


def looks(n: int, seed: int = 0) -> list[Example]:
    """One question about each of `n` pictures of 128 x 128 pixels, as the pipeline asks it."""
    rng = random.Random(seed)
    system = "You inspect solar cells. Answer the question about the image with one word."
    made = []
    for _ in range(n):
        buffer = io.BytesIO()
        Image.frombytes("RGB", (128, 128), rng.randbytes(128 * 128 * 3)).save(buffer, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        content = [
            {"type": "text", "text": "Does this cell have a defect? Answer Yes or No."},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        answer = {"role": "assistant", "content": rng.choice(["Yes", "No"])}
        made.append({"messages": [{"role": "system", "content": system}, {"role": "user", "content": content}, answer]})
    return made


def ours(turn: Turn, base: BaseModel, examples: list[Example], options: dict[str, Any]) -> None:
    """Train with the server's own loop."""
    folder = Path(tempfile.mkdtemp())
    file = folder / "train.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, examples)))
    request = TrainingRequest(
        base=base, adapter=None, training_file=file, validation_file=None, output=folder, state=folder / "state",
        learning_rate_multiplier=1.0, seed=0, **options,
    )  # fmt: skip
    train(request, OurTurns(turn))


def theirs(
    turn: Turn, model: Any, rows: list[dict[str, Any]], options: dict[str, Any], *, packing: bool = False, **more: Any
) -> None:
    """Train with TRL."""
    cuda = torch.cuda.is_available()
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(), num_train_epochs=options["n_epochs"],
        learning_rate=LEARNING_RATES["supervised"]["lora"],
        per_device_train_batch_size=1 if packing else options["batch_size"], packing=packing,
        max_length=1024 if packing else None, bf16=device_and_dtype()[1] == torch.bfloat16, use_cpu=not cuda,
        gradient_checkpointing=False, report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1000,
        dataloader_pin_memory=cuda, remove_unused_columns=False, **more.pop("config", {}),
    )  # fmt: skip
    lora = LoraConfig(
        r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM",
        modules_to_save=more.pop("modules_to_save", None),
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(rows), peft_config=lora,
        processing_class=AutoTokenizer.from_pretrained(TEXT.path), callbacks=[TheirTurns(turn)], **more,
    )  # fmt: skip
    turn.restart_clock()
    trainer.train()


class SeeingDecoder(LlamaModel):
    """The bundled vision model as one would write it for TRL: pixels in, the frozen blocks in every forward pass."""

    def forward(self, input_ids: Any = None, pixel_values: Any = None, **others: Any) -> Any:  # pyright: ignore
        """Decoder states of ids of which the negative ones are image slots."""
        tower: Any = self.tower
        projector: Any = self.projector
        with torch.no_grad():
            features = patches(tower(pixel_values))
        embedded = self.get_input_embeddings()(input_ids.clamp(min=0))
        visual = projector(features).to(embedded.dtype)
        others["inputs_embeds"] = embedded.masked_scatter((input_ids < 0).unsqueeze(-1), visual)
        return super().forward(**others)


def seeing_model() -> Any:
    """The bundled language model with tower and projector."""
    model = AutoModelForCausalLM.from_pretrained(VISION.path, dtype=device_and_dtype()[1])
    vision = BundledVision(model.config.hidden_size)
    model.model.__class__ = SeeingDecoder
    model.model.tower, model.model.projector = vision.tower, vision.projector
    return model


def pixels(url: str) -> torch.Tensor:
    """What the tower takes `[3, PIXELS, PIXELS]`, prepared as `BundledVision` prepares it."""
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).float() / 255
    values = values.view(1, image.height, image.width, 3).permute(0, 3, 1, 2)
    values = torch.nn.functional.interpolate(values, size=(PIXELS, PIXELS), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    return ((values[0] - mean.view(3, 1, 1)) / std.view(3, 1, 1)).contiguous()


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A padded batch with its pixels."""

    def padded(key: str, value: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(row[key]) for row in rows], True, value)

    mask = [torch.ones(len(row["input_ids"]), dtype=torch.long) for row in rows]
    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", -100),
        "attention_mask": torch.nn.utils.rnn.pad_sequence(mask, True),
        "pixel_values": torch.stack([pixels(row["shown"]) for row in rows]),
    }


def as_row(sequence: Sequence) -> dict[str, Any]:
    """Ids and labels as TRL takes them."""
    labels = [token if learned else -100 for token, learned in zip(sequence.ids, sequence.learned, strict=True)]
    return {"input_ids": sequence.ids, "labels": labels}


def encoded(base: BaseModel, examples: list[Example]) -> list[Sequence]:
    """The examples as tokens, made by the server's own code for all."""
    network = load(base)
    features = ImageFeatures(network)
    return [made for example in examples for made in encode_conversation(network, example["messages"], features)]


def their_text(turn: Turn, base: BaseModel, examples: list[Example], options: dict[str, Any]) -> None:
    """TRL on chats, padded."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=device_and_dtype()[1])
    theirs(turn, model, [as_row(sequence) for sequence in encoded(base, examples)], options)


def their_packed_text(turn: Turn, base: BaseModel, examples: list[Example], options: dict[str, Any]) -> None:
    """TRL on chats, packed into rows of 1,024 tokens."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=device_and_dtype()[1])
    theirs(turn, model, [as_row(sequence) for sequence in encoded(base, examples)], options, packing=True)


def their_vision(turn: Turn, base: BaseModel, examples: list[Example], options: dict[str, Any]) -> None:
    """TRL on pictures."""
    urls = [example["messages"][1]["content"][1]["image_url"]["url"] for example in examples]
    rows = [as_row(s) | {"shown": url} for s, url in zip(encoded(base, examples), urls, strict=True)]
    more: dict[str, Any] = {"dataset_kwargs": {"skip_prepare_dataset": True}}
    theirs(turn, seeing_model(), rows, options, config=more, modules_to_save=["projector"], data_collator=collate)


def take_part(act: Callable[..., None], turn: Turn, threads: int | None, *arguments: Any) -> None:
    """Run one trainer, in its own process, from its first turn to its end."""
    be_quiet()
    if threads:
        torch.set_num_threads(threads)
    turn.wait()
    try:
        act(turn, *arguments)
    finally:
        turn.leave()


def race(
    base: BaseModel, examples: list[Example], options: dict[str, Any], rivals: dict[str, Callable[..., None]],
    threads: int | None,
) -> None:  # fmt: skip
    """Let ours and its rivals train on the same examples, and print tokens a second and the ratio."""
    tokens = sum(len(sequence.ids) for sequence in encoded(base, examples)) * options["n_epochs"]
    trainers = {"ours": ours, **rivals}
    turns = Turns(len(trainers))
    running = [
        SPAWN.Process(target=take_part, args=[act, Turn(turns, place), threads, base, examples, options])
        for place, act in enumerate(trainers.values())
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise SystemExit("a trainer failed; see above")
    speeds = {name: tokens / seconds for name, seconds in zip(trainers, turns.seconds, strict=True)}
    for name, speed in speeds.items():
        print(f"  {name:26} {speed:8.1f} tokens/s")
    best = max(speed for name, speed in speeds.items() if name != "ours")
    print(f"  ratio to TRL               {speeds['ours'] / best:8.2f}", flush=True)


def be_quiet() -> None:
    """Keep progress bars and warnings of the libraries out of the figures."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="only text")
    parser.add_argument("--vision", action="store_true", help="only images")
    parser.add_argument("--gpu-model", metavar="SIZE", help="only this size of training_gpu.py, with long chats")
    parser.add_argument("--threads", type=int, help="compute threads (torch's own choice otherwise)")
    parser.add_argument("--examples", type=int, default=24)
    arguments = parser.parse_args()
    be_quiet()
    if arguments.gpu_model:
        from training_gpu import measure

        measure(arguments.gpu_model, "long", batch=8, steps=12)
        return
    n: int = arguments.examples
    if not arguments.vision:
        print(f"text: {n} chats, batches of 4")
        rivals = {"TRL": their_text, "TRL with packing": their_packed_text}
        race(TEXT, chats(n), {"n_epochs": 1, "batch_size": 4}, rivals, arguments.threads)
    if not arguments.text:
        print(f"vision: {2 * n} pictures, three epochs, batches of 8")
        race(VISION, looks(2 * n), {"n_epochs": 3, "batch_size": 8}, {"TRL": their_vision}, arguments.threads)


if __name__ == "__main__":
    main()
