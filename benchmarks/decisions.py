"""What decisions cost: twenty questions about one image beside one, and one decision after the other on loopback.

The published figures of a hosted endpoint are 208 to 236 ms at the median, over the internet and on its own machines.
Every request has an image of its own, so that nothing is answered from what an earlier one left.
"""

from __future__ import annotations

import base64
import io
import statistics
import time
from typing import Any

import numpy as np
import openai
from _server import running_server
from PIL import Image

MODEL = "smollm2-135m-vision"
ROUNDS, REQUESTS = 9, 60
SIDE = 300
QUESTIONS = (
    "a crack", "a dark spot", "a finger", "a busbar", "a scratch", "dirt", "a break", "a corner", "a shadow", "a hole",
    "a line", "a stain", "a cut", "a burn", "a chip", "a cloud", "a ring", "a dot", "an edge", "a gap",
)  # fmt: skip


def picture(seed: int) -> str:
    """Make an image of noise as a data URL."""
    pixels = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ask(client: openai.OpenAI, seed: int, n: int) -> tuple[float, list[float]]:
    """Ask n questions about an image; return the seconds, and the probabilities."""
    shown: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": picture(seed)}]}]
    asked: Any = [{"type": "predicate", "instructions": f"It has {what}."} for what in QUESTIONS[:n]]
    began = time.perf_counter()
    answers = client.decisions.create(model=MODEL, input=shown, questions=asked).answers
    seconds = time.perf_counter() - began
    return seconds, [answer.probability for answer in answers if answer.type == "predicate"]


def main() -> None:
    """Measure, and print a table."""
    with running_server() as server:
        client = openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=600)
        ask(client, 0, 1)
        pairs = [(ask(client, 100 + r, 1)[0], ask(client, 200 + r, 20)[0]) for r in range(ROUNDS)]
        one, twenty = (statistics.median(side) for side in zip(*pairs, strict=True))
        apart = statistics.median(sum(ask(client, 300 + r, 1)[0] for _ in range(20)) for r in range(2))
        times = sorted(ask(client, 1000 + n, 1)[0] for n in range(REQUESTS))
        again = {tuple(ask(client, 1, 20)[1]) for _ in range(5)}
    print("| what | ms |\n| --- | --- |")
    print(f"| one question about an image | {1e3 * one:.0f} |")
    print(f"| twenty questions about an image, in one request | {1e3 * twenty:.0f} ({twenty / one:.2f} times one) |")
    print(f"| twenty questions about an image, in twenty requests | {1e3 * apart:.0f} |")
    print(f"| p50 of {REQUESTS} decisions on loopback | {1e3 * times[REQUESTS // 2]:.0f} |")
    print(f"| p99 of {REQUESTS} decisions on loopback | {1e3 * times[int(0.99 * REQUESTS)]:.0f} |")
    print(f"\nRepeated five times, the same twenty answers came as {len(again)} different one(s).")


if __name__ == "__main__":
    main()
