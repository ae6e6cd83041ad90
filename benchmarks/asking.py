"""How long 10,000 questions take at a provider that answers in 200 ms, 64 of them at once, and how much memory.

    python benchmarks/asking.py --questions 10000 --rounds 1

The least time is questions / concurrency * latency. `ours` is the whole path of the benchmark asset: examples with an
image each become requests, answers are looked up, kept and parsed, and the table of predictions is made. `again` is the
same once more, when all answers are known. The peers only send and receive, the requests being made: the OpenAI SDK's
asynchronous client with a semaphore, and its other client in as many threads. Each runs in a process of its own, beside
the provider's stand-in, which has a process too: fewer than two free cores slow all of them. Memory is the largest that
the process had, after a tenth of the questions and after all.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pandas as pd
from PIL import Image

from finetune_assets.asking.predictions import Asked, predict
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.task import Task

TARGET = 1.15
"""Times the least time that ours may take."""
N_IMAGES = 100
QUESTION = "Question {}: is this cell defective? Answer Yes or No."
TASK = {
    "task": "cells",
    "regions": ["mono"],
    "source": {"kind": "elpv"},
    "sampling": {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2},
    "answer": {"kind": "binary"},
    "base_model": "m",
}


@contextmanager
def provider(latency_s: float) -> Iterator[str]:
    """Run the stand-in; its base URL."""
    command = [sys.executable, str(Path(__file__).with_name("_provider.py")), str(latency_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = next(iter(process.stdout or ()))
        yield f"http://127.0.0.1:{int(port)}/v1"
    finally:
        process.terminate()
        process.wait()


def write_images(folder: Path) -> None:
    """Write noisy pictures of 300 x 300 pixels, some 60 kB each, as providers take them: others are converted first."""
    random = np.random.default_rng(0)
    for number in range(N_IMAGES):
        pixels = random.integers(90, 160, (300, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)


def examples(folder: Path, n: int) -> pd.DataFrame:
    """Make so many questions on the pictures in the folder, all different."""
    names = [str(folder / f"{number % N_IMAGES}.jpg") for number in range(n)]
    asked = {"example_id": [f"e{k}" for k in range(n)], "question": [QUESTION.format(k) for k in range(n)]}
    alike = {"split": "test", "answer": "Yes", "image_fit": True, "image_format": "JPEG"}
    return pd.DataFrame({**asked, "group": asked["example_id"], "image": names, **alike})


def check(answers: list[Any], n: int) -> None:
    """End it all where an answer is missing."""
    if answers != ["Yes"] * n:
        raise SystemExit(f"{answers.count('Yes')} answers of {n}")


def ours(url: str, folder: Path, n: int, concurrency: int) -> None:
    """Ask as the benchmark asset does."""
    task = Task.model_validate({**TASK, "provider": url, "benchmark": {"concurrency": concurrency}})
    client = openai.OpenAI(base_url=url, api_key="k")
    with AnswerCache(folder / "answers.sqlite") as cache:
        table = predict(client, Asked("m", task), examples(folder, n), "base", cache)
    check(table["predicted"].tolist(), n)


def request(number: int, picture: str) -> dict[str, Any]:
    """Make the request that ours makes."""
    parts = [
        {"type": "text", "text": QUESTION.format(number)},
        {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
    ]
    messages = [{"role": "user", "content": parts}]
    settings = {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}
    return {"model": "m", "messages": messages, **settings}


def gathered(url: str, folder: Path, n: int, concurrency: int) -> None:
    """Ask with `asyncio.gather` and a semaphore."""
    picture = f"data:image/jpeg;base64,{'A' * (4 * (folder / '0.jpg').stat().st_size // 3)}"

    async def ask_all() -> list[str | None]:
        turn = asyncio.Semaphore(concurrency)
        async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:

            async def one(number: int) -> str | None:
                async with turn:
                    answer = await client.chat.completions.create(**request(number, picture))
                return answer.choices[0].message.content

            return await asyncio.gather(*map(one, range(n)))

    check(asyncio.run(ask_all()), n)


def threaded(url: str, folder: Path, n: int, concurrency: int) -> None:
    """Ask with a thread for each request under way."""
    picture = f"data:image/jpeg;base64,{'A' * (4 * (folder / '0.jpg').stat().st_size // 3)}"
    client = openai.OpenAI(base_url=url, api_key="k")

    def one(number: int) -> str | None:
        return client.chat.completions.create(**request(number, picture)).choices[0].message.content

    with ThreadPoolExecutor(concurrency) as pool:
        check(list(pool.map(one, range(n))), n)


SIDES: dict[str, Callable[[str, Path, int, int], None]] = {
    "ours": ours,
    "again": ours,
    "SDK, gather": gathered,
    "SDK, threads": threaded,
}


def measure(side: str, url: str, folder: Path, n: int, concurrency: int) -> None:
    """Print seconds, seconds of a core, and the most memory in MB."""
    began, cpu = time.perf_counter(), time.process_time()
    SIDES[side](url, folder, n, concurrency)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(time.perf_counter() - began, time.process_time() - cpu, memory / 1024)


def in_its_own_process(side: str, *arguments: str) -> tuple[float, float, float]:
    """Measure in a new process; what `measure` prints."""
    command = [sys.executable, __file__, "--measure", side, *arguments]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
    wall, cpu, memory = map(float, printed.split())
    return wall, cpu, memory


def main() -> int:
    """Run what the command line asks for; exit code 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds (default 0.2)")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each side, of which the best counts")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        side, url, folder, n, concurrency = arguments.measure
        measure(side, url, Path(folder), int(n), int(concurrency))
        return 0
    least = arguments.questions / arguments.concurrency * arguments.latency
    print(f"{arguments.questions:,} questions, {arguments.concurrency} at once, at least {least:.1f} s")
    print("side           seconds  of least  CPU ms each  MB, a tenth  MB, all", flush=True)
    best: dict[str, float] = {}
    with provider(arguments.latency) as url:
        for side in [side for _ in range(arguments.rounds) for side in arguments.sides]:
            with tempfile.TemporaryDirectory() as folder:
                write_images(Path(folder))
                rest = str(arguments.concurrency)
                _, _, few = in_its_own_process(side, url, folder, str(arguments.questions // 10), rest)
                (Path(folder) / "answers.sqlite").unlink(missing_ok=True)
                whole = (side, url, folder, str(arguments.questions), rest)
                if side == "again":
                    in_its_own_process(*whole)
                wall, cpu, memory = in_its_own_process(*whole)
            best[side] = min(wall / least, best.get(side, np.inf))
            each = 1000 * cpu / arguments.questions
            print(f"{side:13} {wall:8.2f}  {wall / least:7.2f}x  {each:11.2f}  {few:11.0f}  {memory:7.0f}", flush=True)
    return 0 if best.get("ours", 0) <= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
