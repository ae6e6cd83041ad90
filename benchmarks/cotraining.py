"""Jobs of one base model: one after another, side by side, and trained together in one process.

    python benchmarks/cotraining.py [--jobs N] [--batch N] [--examples N] [--rounds N]
    python benchmarks/cotraining.py --gpu [--size {tiny,135m,1b,7b}] [--jobs N] ...

On a CPU the jobs are regions of the demo's kind: pictures, the bundled vision model with its projector. With `--gpu`
they are short chats, for which eight adapters are trained on random weights (`--size tiny` runs on a CPU). One after
another, a job has the whole machine; side by side, as many run at once as the server has slots, each with its share of
the threads; together, all have the whole machine. Clocks run while jobs train, from the loading of the model to the
last one's weights; the import of libraries, which the server's processes have from the one they are forked from, does
not count. Beside that, what the processors were busy for, which other load on the machine changes less.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
import transformers
from safetensors.torch import load_file

from finetune_assets.server.base_models import SHARE, TEXT_MODEL, VISION_MODEL, BaseModel
from finetune_assets.server.devices import cores, cuda_devices, jobs_per_device
from finetune_assets.server.training import threads
from finetune_assets.server.training.cotraining import train_together
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.watcher import Watcher

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Work:
    """What all ways are measured on."""

    base: BaseModel
    files: list[Path]
    """One for each job."""
    batch: int
    n_epochs: int

    def requests(self, numbers: list[int], output: Path) -> list[TrainingRequest]:
        """Those of some of the jobs."""
        return [
            TrainingRequest(
                base=self.base, adapter=None, training_file=self.files[number], validation_file=None,
                output=output / str(number), state=output / f"state-{number}", n_epochs=self.n_epochs,
                batch_size=self.batch, learning_rate_multiplier=1.0, seed=number,
            )
            for number in numbers
        ]  # fmt: skip


def work_on(work: Work, numbers: list[int], n_threads: int, output: Path, ready: Any, answers: Any) -> None:
    """Train some jobs in this process, together if they are several, and tell when it began and ended."""
    be_quiet()
    os.environ.setdefault(*threads.SAME_BITS)
    torch.set_num_threads(n_threads)
    requests = work.requests(numbers, output)
    ready.wait()
    began, busy = time.perf_counter(), time.process_time()
    if len(requests) == 1:
        train(requests[0], Watcher())
    else:
        for _, outcome in train_together(requests, [Watcher() for _ in requests]):
            if isinstance(outcome, Exception):
                raise outcome
    answers.put((began, time.perf_counter(), time.process_time() - busy))


def at_once(work: Work, groups: list[list[int]], n_threads: int, output: Path) -> tuple[float, float]:
    """Let one process for each group of jobs run. Returns the seconds until the last has ended, and those of processor.

    Raises:
        SystemExit: one has failed.
    """
    ready, answers = SPAWN.Barrier(len(groups)), SPAWN.SimpleQueue()
    running = [
        SPAWN.Process(target=work_on, args=[work, numbers, n_threads, output, ready, answers]) for numbers in groups
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise SystemExit("a training failed; see above")
    found = [answers.get() for _ in running]
    return max(end for _, end, _ in found) - min(began for began, _, _ in found), sum(busy for _, _, busy in found)


def be_quiet() -> None:
    """Keep progress bars and warnings of the libraries out of the figures."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()


def one_after_another(work: Work, output: Path) -> tuple[float, float]:
    """Each alone, on all cores."""
    found = [at_once(work, [[number]], cores(), output) for number in range(len(work.files))]
    return sum(wall for wall, _ in found), sum(busy for _, busy in found)


def side_by_side(work: Work, output: Path, slots: int) -> tuple[float, float]:
    """As many at once as there are slots."""
    numbers = list(range(len(work.files)))
    rounds = [numbers[i : i + slots] for i in range(0, len(numbers), slots)]
    found = [at_once(work, [[number] for number in some], max(1, cores() // slots), output) for some in rounds]
    return sum(wall for wall, _ in found), sum(busy for _, busy in found)


def together(work: Work, output: Path) -> tuple[float, float]:
    """All in one process."""
    return at_once(work, [list(range(len(work.files)))], cores(), output)


def in_slots(work: Work, output: Path, slots: int) -> tuple[float, float]:
    """A share of the jobs together in each slot."""
    numbers = list(range(len(work.files)))
    return at_once(work, [numbers[slot::slots] for slot in range(slots)], max(1, cores() // slots), output)


def measure(work: Work, n_examples: int, rounds: int) -> None:
    """Take turns, and print what each way takes, and how far weights trained together are from those of jobs alone."""
    slots, n_jobs = 1 if cuda_devices() else jobs_per_device(), len(work.files)
    ways: dict[str, Any] = {"one after another": one_after_another, "together": together}
    if slots > 1:
        ways["side by side"] = lambda work, output: side_by_side(work, output, slots)
    if slots > 1 and n_jobs > slots:
        ways["together in each slot"] = lambda work, output: in_slots(work, output, slots)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for way, act in ways.items():
                shutil.rmtree(output := Path(folder) / way, ignore_errors=True)
                found[way].append(act(work, output))
                wall, busy = found[way][-1]
                print(f"  {way:22} {wall:7.1f} s, {busy:7.1f} s of processor", flush=True)
        apart = max(difference(Path(folder), number, "one after another", "together") for number in range(n_jobs))
    usual = sum(wall for wall, _ in found["side by side" if slots > 1 else "one after another"])
    for way, taken in found.items():
        wall, busy = sum(wall for wall, _ in taken), sum(busy for _, busy in taken)
        learned = rounds * n_jobs * n_examples * work.n_epochs
        told = f"{learned / wall:6.1f} examples/s, {learned / busy:6.1f} a second of processor"
        print(f"  {way:22} {told}, {usual / wall:5.2f} times as fast as the usual way", flush=True)
    print(f"  weights trained together differ from those of jobs alone by {apart:.1e} of what they learned", flush=True)


def difference(folder: Path, number: int, one: str, other: str) -> float:
    """Distance of what a job has learned in two ways, relative to its size (Euclidean norms over all B of LoRA)."""
    files = [folder / way / str(number) / "model" / "adapter_model.safetensors" for way in (one, other)]
    states = [{name: weight for name, weight in load_file(file).items() if ".lora_B." in name} for file in files]
    first, second = (torch.cat([weight.flatten().float() for weight in state.values()]) for state in states)
    return float((first - second).norm() / first.norm())


def prepared(folder: Path, size: str | None, n_jobs: int, n_examples: int) -> tuple[BaseModel, list[Path]]:
    """The base model, random weights of this size or the bundled one that sees, and a file for each job."""
    from training import looks  # with TRL, which trainers have no use for
    from training_gpu import talks, write_model

    if size is None:
        base = BaseModel(VISION_MODEL, str(SHARE / TEXT_MODEL), vision=True)
        examples = [looks(n_examples, seed=number) for number in range(n_jobs)]
    else:
        write_model(folder / "model", size)
        base = BaseModel("random", str(folder / "model"), vision=False)
        chats = talks(n_jobs * n_examples, "short")
        examples = [chats[number::n_jobs] for number in range(n_jobs)]
    files = [folder / f"{number}.jsonl" for number in range(n_jobs)]
    for file, own in zip(files, examples, strict=True):
        file.write_bytes(b"\n".join(map(orjson.dumps, own)))
    return base, files


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="adapters for short chats of a larger model")
    parser.add_argument("--size", choices=["tiny", "135m", "1b", "7b"], help="with --gpu: of the model (7b)")
    parser.add_argument("--jobs", type=int, help="2, with --gpu 8")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    be_quiet()
    size = arguments.size or ("7b" if torch.cuda.is_available() else None)
    if arguments.gpu and size is None:
        print("co-training on a GPU: skipped, there is no CUDA device here (--size tiny runs on a CPU)")
        return
    n_jobs: int = arguments.jobs or (8 if arguments.gpu else 2)
    with tempfile.TemporaryDirectory() as folder:
        base, files = prepared(Path(folder), size if arguments.gpu else None, n_jobs, arguments.examples)
        what = f"short chats, {size}" if arguments.gpu else "pictures, the bundled vision model"
        print(
            f"{n_jobs} jobs of {arguments.examples} examples ({what}), two epochs, batches of {arguments.batch}",
            flush=True,
        )
        measure(Work(base, files, arguments.batch, 2), arguments.examples, arguments.rounds)


if __name__ == "__main__":
    main()
