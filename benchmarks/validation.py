"""How fast training files are validated, against `together`'s check_file and against what people copy from notebooks.

    python benchmarks/validation.py --lines 200000 --images 2000 --rounds 3 --together /path/to/venv/bin/python

check_file reads a file as UTF-8 and parses each line with json, nothing else. The notebooks' way parses each line,
looks at roles and contents and counts tokens with bpe-openai; it is the same work that tiktoken is used for there. Ours
is the command `finetune-assets validate`, for structure alone and in full: exact o200k_base tokens, duplicates,
contradictions, secrets, and the headers and checksums of images. All are whole processes, start-up included; they take
turns, so that a busy machine slows all alike, and the median of the rounds' ratios counts. `together` is no dependency
of ours: name a Python that has it, or that side is left out.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
from PIL import Image

CHECK_FILE = "import sys; from together.lib.utils import check_file; assert check_file(sys.argv[1])['is_check_passed']"
NOTEBOOK = """
import json, sys
from bpe_openai import get_encoding
encoding, tokens, errors = get_encoding("o200k_base"), 0, 0
with open(sys.argv[1]) as file:
    for line in file:
        messages = json.loads(line)["messages"]
        for message in messages:
            if message["role"] not in ("system", "user", "assistant") or not message["content"]:
                errors += 1
            parts = message["content"]
            for text in [parts] if isinstance(parts, str) else [part.get("text", "") for part in parts]:
                tokens += len(encoding.encode(text))
        errors += not any(message["role"] == "assistant" for message in messages)
assert not errors
"""
OURS = [sys.executable, "-m", "finetune_assets.cli", "validate"]
PER_EXAMPLE_BYTES = 300
"""Memory that may be added for each example: its hashes, in dictionaries that double as they grow."""


def main() -> None:
    """Measure and print; exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=200_000, help="lines of text, some 100 tokens each")
    parser.add_argument("--images", type=int, default=2_000, help="inlined images, 30 to 100 kB each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--together", default=sys.executable, help="a Python in which `together` is installed")
    options = parser.parse_args()
    has_together = subprocess.run([options.together, "-c", "import together"], capture_output=True).returncode == 0
    if not has_together:
        print(f"together is not installed for {options.together}: check_file is left out, and no target is judged")
    with tempfile.TemporaryDirectory() as folder:
        good = measure(Path(folder), options, has_together)
    sys.exit(0 if good else 1)


def measure(folder: Path, options: argparse.Namespace, has_together: bool) -> bool:
    """Run all comparisons, print their ratios, and say whether every target is met."""
    texts = write(folder / "texts.jsonl", (text_line(k) for k in range(options.lines)))
    pictures = write(folder / "pictures.jsonl", (image_line(k) for k in range(options.images)))
    good = True
    for name, path, most in (("text", texts, 4), ("inlined images", pictures, 2)):
        sides = {"structure": [*OURS, "--structure-only"], "full": OURS, "notebook": [sys.executable, "-c", NOTEBOOK]}
        if has_together:
            sides["check_file"] = [options.together, "-c", CHECK_FILE]
        times = race(options.rounds, {side: [*command, str(path)] for side, command in sides.items()})
        seconds = ", ".join(f"{side} {median(taken):.2f} s" for side, taken in times.items())
        print(f"{name} ({path.stat().st_size / 1e6:,.0f} MB): {seconds}")
        print(f"  {ratio(times, 'notebook', 'full'):6.2f} x as fast in full as the notebooks' way")
        if has_together:
            good &= verdict("check_file's time for structure alone", ratio(times, "structure", "check_file"), 1)
            good &= verdict("check_file's time in full", ratio(times, "full", "check_file"), most)
    few = write(folder / "few.jsonl", (text_line(k) for k in range(options.lines // 10)))
    peaks = [peak_bytes([*OURS, str(path)]) for path in (few, texts)]
    print(f"peak memory: {peaks[0] / 1e6:.0f} MB for {options.lines // 10:,} lines, {peaks[1] / 1e6:.0f} MB for all")
    growth = (peaks[1] - peaks[0]) / (options.lines * 0.9)
    return verdict("bytes more for each line more", growth, PER_EXAMPLE_BYTES) and good


def race(rounds: int, sides: dict[str, list[str]]) -> dict[str, list[float]]:
    """Seconds of each side's process in each round, all sides taking turns; a first round warms the file cache."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, command in sides.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if number:
                times[side].append(time.perf_counter() - start)
    return times


def ratio(times: dict[str, list[float]], above: str, below: str) -> float:
    """How many times as long the one side takes as the other: the median over the rounds of the ratio within one."""
    return median(a / b for a, b in zip(times[above], times[below], strict=True))


def verdict(what: str, found: float, most: float) -> bool:
    """Print a number beside what it may be at most, and say whether it is."""
    print(f"  {found:6.2f} x {what} (at most {most:g}): {'ok' if found <= most else 'MISSED'}")
    return found <= most


def peak_bytes(command: list[str]) -> int:
    """Peak memory of a process of its own, without that of the one that counts beside it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * 1024


def write(path: Path, examples: Iterator[dict[str, Any]]) -> Path:
    """Write a JSONL file."""
    with path.open("wb") as file:
        file.writelines(orjson.dumps(example, option=orjson.OPT_APPEND_NEWLINE) for example in examples)
    return path


def text_line(number: int) -> dict[str, Any]:
    """A conversation of some 100 tokens, of words as frequent as those of a language are (Zipf's law)."""
    random_words = random.Random(number)
    words = " ".join(WORDS[min(int(random_words.paretovariate(1)) - 1, len(WORDS) - 1)] for _ in range(60))
    return chat(f"Question {number}: {words[:250]}?", f"{words[250:]}.")


def image_line(number: int) -> dict[str, Any]:
    """A question about a picture, which is a PNG, JPEG or WEBP in turn."""
    image_format = ("PNG", "JPEG", "WEBP")[number % 3]
    side = {"PNG": 160, "JPEG": 340, "WEBP": 380}[image_format]
    coarse = np.random.default_rng(number).integers(0, 256, (side // 2, side // 2, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, image_format)
    url = f"data:image/{image_format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    asked = [{"type": "text", "text": f"What is {number}?"}, {"type": "image_url", "image_url": {"url": url}}]
    return chat(asked, f"It is {number}.")


def chat(asked: str | list[dict[str, Any]], answer: str) -> dict[str, Any]:
    """A conversation in the chat format."""
    return {
        "messages": [
            {"role": "system", "content": "You are a helpful assistant that answers questions."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]
    }


def made_up_words(n: int) -> list[str]:
    """Words of one to five syllables."""
    syllables = random.Random(0)
    return [
        "".join(syllables.choice("bdfgklmnprst") + syllables.choice("aeiou") for _ in range(1 + k % 5))
        for k in range(n)
    ]


WORDS = made_up_words(20_000)

if __name__ == "__main__":
    main()
