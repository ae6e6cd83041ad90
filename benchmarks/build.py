"""How fast training files are built, against what people copy from notebooks and against moving the bytes alone.

    python benchmarks/build.py --rows 50000 --images 600 --rounds 3

The notebooks' way: a data frame row by row, images through base64, lines through json or jsonlines, on one core and in
memory. Moving the bytes alone: every image is read, and as many bytes as the file has are written, nothing else. All
sides read the same rows and write the same conversations; they take turns in one run, so that a busy machine slows all
alike, and the median of the rounds counts. Peak memory is that of processes of their own.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jsonlines
import numpy as np
import pandas as pd
from PIL import Image
from upath import UPath

from finetune_assets.dataset.images import inspect
from finetune_assets.dataset.sampling import DTYPES
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.task import Prompt
from finetune_assets.training_file.jsonl import build

PROMPT = Prompt(system="Given a science question, reply with a detailed answer.", user="{question}")
FLAT = 1.15
"""Peak memory may grow by this factor, which is the noise of the allocator, while the images become ten times more."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="text rows")
    parser.add_argument("--images", type=int, default=600, help="images that pass through; a fifth is encoded again")
    parser.add_argument("--many", type=int, default=10_000, help="images of the larger of the two builds for memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(peak_mb(options.peak_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Run all four comparisons and print their ratios beside what they should be."""
    made = folder / "made.jsonl"
    texts = text_table(folder / "texts.parquet", options.rows)
    times = race(
        options.rounds,
        notebook=lambda: text_notebook(texts, folder / "notebook.jsonl"),
        ours=lambda: build(texts, PROMPT, "train", made),
    )
    print(f"text rows ({options.rows:,}): {options.rows / median(times['ours']):,.0f} a second")
    verdict("against the notebooks' way", ratio(times, "notebook", "ours"), 10)

    photos = image_table(folder / "photos", options.images, photo, "JPEG")
    times = race(
        options.rounds,
        notebook=lambda: image_notebook(photos, folder / "notebook.jsonl"),
        moving=lambda: move_bytes(photos, folder / "moved.bin"),
        ours=lambda: build(photos, PROMPT, "train", made),
    )
    speed = made.stat().st_size / 1e6 / median(times["ours"])
    print(f"images that pass through ({options.images:,}): {speed:,.0f} MB a second")
    verdict("against the notebooks' way", ratio(times, "notebook", "ours"), 2)
    verdict("of the speed of moving the bytes alone", ratio(times, "moving", "ours"), 0.5)

    greys = image_table(folder / "greys", options.images // 5, grey, "PNG")
    times = race(
        options.rounds,
        one=lambda: build(greys, PROMPT, "train", made, threads=1),
        two=lambda: build(greys, PROMPT, "train", made, threads=2),
    )
    each = 1e3 * median(times["two"]) * 5 / options.images
    print(f"images that are encoded again ({options.images // 5:,}): {each:.1f} ms each")
    verdict("with two threads against one", ratio(times, "one", "two"), 1.8)

    peaks = [peak_apart(repeated(folder / f"{n}.parquet", photos, n)) for n in (options.many // 10, options.many)]
    print(f"peak memory: {peaks[0]:.0f} MB for {options.many // 10:,} images, {peaks[1]:.0f} MB for {options.many:,}")
    verdict("growth", peaks[1] / peaks[0], FLAT, at_most=True)


def race(rounds: int, **sides: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of each side in each round, all sides taking turns; a first round warms the file cache and is lost."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: dict[str, list[float]], slower: str, faster: str) -> float:
    """How many times as fast the faster side is: the median over the rounds of the ratio within a round."""
    return median(a / b for a, b in zip(times[slower], times[faster], strict=True))


def verdict(what: str, found: float, wanted: float, *, at_most: bool = False) -> None:
    """Print a ratio beside what it should be."""
    good = found <= wanted if at_most else found >= wanted
    print(f"  {found:6.2f} x {what} ({'at most' if at_most else 'at least'} {wanted:g}): {'ok' if good else 'MISSED'}")


def text_notebook(table: Table, path: Path) -> None:
    """Write text rows as notebooks do."""
    items = []
    for _, row in table.frame().iterrows():
        items.append(
            {
                "messages": [
                    {"role": "system", "content": PROMPT.system},
                    {"role": "user", "content": row["question"]},
                    {"role": "assistant", "content": row["answer"]},
                ]
            }
        )
    with jsonlines.open(path, mode="w") as writer:
        writer.write_all(items)


def image_notebook(table: Table, path: Path) -> None:
    """Write image rows as notebooks do; the images are fit already, so that nothing is encoded again."""
    with path.open("w") as file:
        for _, row in table.frame().iterrows():
            with Path(str(row["image"])).open("rb") as image:
                encoded = base64.b64encode(image.read()).decode("utf-8")
            url = {"url": f"data:image/jpeg;base64,{encoded}", "detail": "low"}
            asked = [{"type": "text", "text": row["question"]}, {"type": "image_url", "image_url": url}]
            line = {
                "messages": [
                    {"role": "system", "content": PROMPT.system},
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": row["answer"]},
                ]
            }
            file.write(json.dumps(line) + "\n")


def move_bytes(table: Table, path: Path) -> None:
    """Read every image, and write as many bytes as its base64 form has."""
    with path.open("wb") as file:
        for image in table.frame(["image"])["image"].tolist():
            data = Path(image).read_bytes()
            file.write(data)
            file.write(memoryview(data)[: len(data) // 3])


def text_table(path: Path, n: int) -> Table:
    """Questions and answers of the length of those in science quizzes."""
    rows = {
        "example_id": [str(k) for k in range(n)],
        "split": "train",
        "question": [
            f"What is thing number {k} called, which is found in {k % 97} of 100 samples of rock?" for k in range(n)
        ],
        "answer": [f"thing {k} Explanation: " + "Samples of rock hold many things. " * (1 + k % 9) for k in range(n)],
    }
    return write_table(UPath(path), pd.DataFrame(rows).reindex(columns=list(DTYPES)).astype(DTYPES))


def image_table(folder: Path, n: int, make: Callable[[int], Image.Image], image_format: str) -> Table:
    """Questions about n pictures, which are written into the folder."""
    folder.mkdir()
    rows = []
    for k in range(n):
        buffer = io.BytesIO()
        make(k).save(buffer, image_format)
        data = buffer.getvalue()
        path = folder / f"{k}.{image_format.lower()}"
        path.write_bytes(data)
        seen = inspect(data)
        rows.append(
            {
                "example_id": str(k),
                "split": "train",
                "question": "Is it defective?",
                "answer": "Yes" if k % 2 else "No",
                "image": str(path),
                "image_sha256": seen.sha256,
                "image_bytes": len(data),
                "image_modified_ns": path.stat().st_mtime_ns,
                "image_format": seen.format,
                "image_fit": seen.fit,
            }
        )
    return write_table(UPath(folder / "table.parquet"), pd.DataFrame(rows).reindex(columns=list(DTYPES)).astype(DTYPES))


def photo(number: int) -> Image.Image:
    """A colourful picture of 640 x 480, some 150 kB as a JPEG."""
    coarse = np.random.default_rng(number).integers(0, 256, (160, 213, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)


def grey(number: int) -> Image.Image:
    """A grey picture of 300 x 300, as those of the solar cells, which providers want in RGB."""
    coarse = np.random.default_rng(number).integers(0, 256, (100, 100), dtype=np.uint8)
    return Image.fromarray(coarse).resize((300, 300), Image.Resampling.BICUBIC)


def repeated(path: Path, table: Table, n: int) -> Table:
    """The rows of a table over and over, to n rows."""
    frame = table.frame()
    return write_table(UPath(path), frame.iloc[np.arange(n) % len(frame)])


def peak_apart(table: Table) -> float:
    """Peak memory in MB of a process that builds a file from the table."""
    command = [sys.executable, __file__, "--peak-of", str(table.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.findall(r"[\d.]+", done.stdout)[-1])


def peak_mb(path: Path) -> float:
    """Build a file from the table and return this process's peak memory in MB. The file itself is not kept."""
    build(Table(UPath(path)), PROMPT, "train", path.with_suffix(".jsonl"))
    path.with_suffix(".jsonl").unlink()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
