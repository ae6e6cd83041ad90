"""What others notice of clients that mean no good: how long the innocent wait, and how much memory the server takes.

    PYTHONPATH=. python benchmarks/hostile.py

One after the other come thousands of silent sockets; hundreds of images as large as they may be; requests of as many
images as one may hold; texts of 60 MB, many at once; and requests to every route that keep to its limits and are as bad
as these allow. Meanwhile `/healthz` is asked all the time, and an innocent client asks a text question again and again.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import httpx2
import numpy as np
import openai
import orjson
from _server import Server, running_server
from PIL import Image

from finetune_assets_tests.server.hostile_bodies import Grammar

MODEL = "smollm2-135m-vision"
SOCKETS = 2000
IMAGES = 500
LARGEST = (8000, 8000)
"""64 million pixels, the most that one image may have; two of them are the most of a request."""
COMMON = (505, 505)
"""Five hundred of these are the most of a request."""
TEXTS = 60_000_000
"""Bytes of text in a body."""
GRAMMAR = 300
"""Requests of the grammar."""


@cache
def picture(size: tuple[int, int]) -> bytes:
    """Make a JPEG of coarse noise."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=10)
    return buffer.getvalue()


def jpeg(size: tuple[int, int], number: int) -> str:
    """Return an image as a data URL, whose bytes are no other's by a comment in it."""
    whole = picture(size)
    comment = b"\xff\xfe\x00\x0a" + number.to_bytes(8)
    return f"data:image/jpeg;base64,{base64.b64encode(whole[:2] + comment + whole[2:]).decode()}"


def showing(urls: list[str]) -> bytes:
    """Ask for one token about images."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return orjson.dumps({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": parts}]})


def flood(server: Server, bodies: Callable[[int], bytes], n: int, at_once: int) -> dict[int, int]:
    """Send so many bodies, some at once, and count the statuses of the answers."""
    counts = Counter[int]()
    headers = {"Authorization": f"Bearer {server.add_key()}", "Content-Type": "application/json"}

    def send(number: int) -> None:
        answer = httpx2.post(
            f"{server.base_url}/chat/completions", content=bodies(number), headers=headers, timeout=900
        )
        counts[answer.status_code] += 1

    with ThreadPoolExecutor(at_once) as many:
        list(many.map(send, range(n)))
    return dict(counts)


def silent_sockets(server: Server) -> str:
    """Open connections that say nothing, and hold them for a while."""
    with ExitStack() as opened:
        for _ in range(SOCKETS):
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        time.sleep(10)
    return f"{SOCKETS:,} connections"


def largest_images(server: Server) -> str:
    """Send images as large as they may be, two in each request."""
    return str(flood(server, lambda n: showing([jpeg(LARGEST, 2 * n), jpeg(LARGEST, 2 * n + 1)]), IMAGES // 2, 4))


def most_images(server: Server) -> str:
    """Send requests of as many images as one may hold."""
    return str(flood(server, lambda n: showing([jpeg(COMMON, 10_000 * (n + 1) + k) for k in range(IMAGES)]), 2, 2))


def long_bodies(server: Server) -> str:
    """Send texts that are longer than any model takes, many at once."""
    texts = [{"role": "user", "content": "a b" * (TEXTS // 18)}] * 6
    body = orjson.dumps({"model": MODEL, "max_tokens": 1, "messages": texts})
    return str(flood(server, lambda _n: body, 24, 12))


def grammar(server: Server) -> str:
    """Send requests to every route that keep to its limits, each with too much of something in one place."""
    root, counts = f"http://127.0.0.1:{server.port}", Counter[int]()
    headers = {"Authorization": f"Bearer {server.add_key()}"}
    with httpx2.Client(base_url=root, headers=headers, timeout=600) as http:
        made = Grammar(http.get("/openapi.json").json(), seed=1, largest=TEXTS, known={"model": MODEL})
        for attack in made.attacks(GRAMMAR):
            typed = {"Content-Type": attack.content_type}
            counts[http.request(attack.method, attack.path, content=attack.body, headers=typed).status_code // 100] += 1
    return ", ".join(f"{n} {status}xx" for status, n in sorted(counts.items()))


@contextmanager
def watched(server: Server) -> Iterator[dict[str, list[float]]]:
    """Measure meanwhile: seconds of `/healthz` and of an innocent text question, and the server's memory in MB."""
    seen: dict[str, list[float]] = {"healthz": [], "text": [], "memory": []}
    over = threading.Event()
    client = openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=600)
    numbers = itertools.count()

    def again(name: str, pause: float, act: Callable[[], object]) -> None:
        while not over.wait(pause):
            began = time.perf_counter()
            value = act()
            seen[name].append(value if isinstance(value, float) else time.perf_counter() - began)

    def ask() -> None:
        text: Any = [{"role": "user", "content": f"Is {next(numbers)} even?"}]
        client.chat.completions.create(model=MODEL, messages=text, max_tokens=1)

    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as http:
        acts: list[tuple[str, float, Callable[[], object]]] = [
            ("healthz", 0.02, lambda: http.get("/healthz").raise_for_status()),
            ("text", 0.2, ask),
            ("memory", 0.05, server.memory_mb),
        ]
        threads = [threading.Thread(target=again, args=act) for act in acts]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in threads:
                thread.join()


def told(what: str, came: str, seen: dict[str, list[float]]) -> str:
    """Put what was seen into a row of the table."""
    cells = [f"{what} ({came})"]
    for name in ("healthz", "text"):
        took = sorted(seen[name])
        cells += [f"{1000 * took[int(share * (len(took) - 1))]:.0f}" for share in (0.5, 0.99)]
    cells.append(f"{max(seen['memory']):.0f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print a table."""
    attacks = {"nobody else": lambda _server: time.sleep(10) or "10 s", "silent sockets": silent_sockets,
               "largest images": largest_images, "most images": most_images, "long bodies": long_bodies,
               "a grammar of all routes": grammar}  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", default=list(attacks), help=", ".join(attacks))
    with running_server() as server:
        openai.OpenAI(base_url=server.base_url, api_key=server.key, timeout=600).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "?"}], max_tokens=1
        )
        print(f"Load {os.getloadavg()[0]:.1f}. Milliseconds; the memory is the server's own.\n")
        print("| meanwhile | healthz p50 | p99 | text p50 | p99 | memory, MB |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for name in parser.parse_args().attacks:
            with watched(server) as seen:
                came = attacks[name](server)
            print(told(name, came, seen), flush=True)


if __name__ == "__main__":
    main()
