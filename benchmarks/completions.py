"""How many completions a second the server answers, against transformers' `generate` one prompt at a time.

    python benchmarks/completions.py --requests 16 --rounds 2

Same weights, precision, prompts and machine, each side with its own number of threads; the two sides take turns in
one run, so that a busy machine slows both. Prompts are as users send them: a system prompt in common, another
question or another picture in every request. Answers are greedy and have exactly 1 or 64 tokens (the end token is
banned on both sides). The server is a process of its own on a temporary folder, asked over HTTP with the OpenAI SDK.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import itertools
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import openai
import psutil
import torch
from _server import Server, running_server
from PIL import Image

from finetune_assets.server.base_models import resolve
from finetune_assets.server.model.chat_encoding import ImageFeatures, encode_prompt
from finetune_assets.server.model.network import Network, load

TEXT, VISION = "smollm2-135m-instruct", "smollm2-135m-vision"
TARGETS = {1: 2.0, 64: 4.0}
"""The ratio that concurrency 16 must reach, by the tokens of an answer."""
SYSTEM = (
    "You inspect deliveries for a wholesaler of garden tools. For each delivery you are told what was ordered and what "
    "came. Compare the two, say whether the delivery is complete, and name what is missing or damaged. Count pieces "
    "and not boxes. A delivery with more pieces than ordered is complete. Answer in one short sentence, in English, "
    "without greeting, and do not repeat the question."
)
LOOK = (
    "You inspect photographs of solar cells taken by electroluminescence. Dark areas, cracks and broken fingers are "
    "defects; shades at the edge are not. Answer in one short sentence, in English."
)
THINGS = ("spades", "rakes", "hoses", "pruning shears", "wheelbarrows", "seed trays", "gloves", "watering cans")

Messages = list[dict[str, Any]]


class Prompts:
    """Conversations that all differ."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def text(self) -> Messages:
        """A question of about 40 tokens."""
        ordered, came = self._random.integers(2, 900, 2)
        thing, other = self._random.choice(THINGS, 2, replace=False)
        question = (
            f"Order {self._random.integers(10**6)}: {ordered} {thing} and {came} {other}. There came {came} {thing} "
            f"and {ordered} {other}, of which {self._random.integers(2, 9)} are scratched. Is it complete?"
        )
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]

    def vision(self) -> Messages:
        """A question about a new picture of 300 x 300 pixels."""
        pixels = self._random.integers(90, 160, (30, 30), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((300, 300)).save(file, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        parts = [{"type": "text", "text": "Is this cell defective?"}, {"type": "image_url", "image_url": {"url": url}}]
        return [{"role": "system", "content": LOOK}, {"role": "user", "content": parts}]

    def some(self, model: str, n: int) -> list[Messages]:
        """`n` new conversations."""
        return [self.vision() if model == VISION else self.text() for _ in range(n)]


class OneAtATime:
    """The peer: transformers' own `generate` on one prompt after the other."""

    def __init__(self, model: str) -> None:
        self.network: Network = load(resolve(model, Path()))
        self._features = ImageFeatures(self.network)

    @torch.inference_mode()
    def answer(self, messages: Messages, tokens: int) -> str:
        """The greedy answer of exactly so many tokens."""
        prompt = encode_prompt(self.network, messages, self._features)
        embedded = self.network.embed([prompt.ids], [prompt.images])
        made = self.network.model.generate(
            inputs_embeds=embedded, attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
            max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0,
        )  # fmt: skip
        return self.network.tokenizer.decode(made[0], skip_special_tokens=True)


class Asking:
    """The server under test, asked many things at once."""

    def __init__(self, server: Server) -> None:
        self._client = openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key, timeout=900)

    async def answer(self, model: str, asked: list[Messages], tokens: int, concurrency: int) -> list[str]:
        """The greedy answers, so many requests at a time."""
        turn = asyncio.Semaphore(concurrency)

        async def one(messages: Any) -> str:
            async with turn:
                done = await self._client.chat.completions.create(
                    model=model, messages=messages, max_tokens=tokens, temperature=0, logit_bias={"2": -100}
                )
                return done.choices[0].message.content or ""

        return await asyncio.gather(*(one(messages) for messages in asked))


async def compare(model: str, server: Server, arguments: argparse.Namespace) -> bool:
    """Print one model's table. Returns whether it reaches the targets."""
    asking, peer, prompts = Asking(server), OneAtATime(model), Prompts(seed=0)
    print(f"\n{model}")
    print("tokens  at once  completions/s  one at a time   ratio  same text", flush=True)
    await asking.answer(model, prompts.some(model, 2), 2, 1)
    peer.answer(prompts.some(model, 1)[0], 2)
    rates: dict[tuple[int, int], list[float]] = defaultdict(list)
    same: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for tokens in arguments.tokens:
            for concurrency in arguments.concurrency:
                asked = prompts.some(model, max(arguments.requests, concurrency))
                began = time.perf_counter()
                answers = await asking.answer(model, asked, tokens, concurrency)
                rates[tokens, concurrency].append(len(asked) / (time.perf_counter() - began))
                few = asked[: max(2, arguments.requests // 4)]
                began = time.perf_counter()
                expected = [peer.answer(messages, tokens) for messages in few]
                rates[tokens, 0].append(len(few) / (time.perf_counter() - began))
                same[tokens, concurrency] += [a == b for a, b in zip(answers, expected, strict=False)]
    reached = True
    for tokens, concurrency in itertools.product(arguments.tokens, arguments.concurrency):
        ours, its = median(rates[tokens, concurrency]), median(rates[tokens, 0])
        equal = same[tokens, concurrency]
        print(
            f"{tokens:6}  {concurrency:7}  {ours:13.2f}  {its:13.2f}  {ours / its:5.1f}x  {sum(equal)} of {len(equal)}"
        )
        reached &= concurrency < 16 or ours / its >= TARGETS.get(tokens, 0)
    print(f"server memory: {server.memory_mb():.0f} MB")
    return reached


async def main() -> int:
    """Run what the command line asks for; exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[TEXT, VISION])
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--requests", type=int, default=16, help="per measurement (default 16)")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each kind, of which the median counts")
    arguments = parser.parse_args()
    print(f"{psutil.cpu_count()} cores, {torch.get_num_threads()} threads for generate", flush=True)
    with running_server() as server:
        reached = [await compare(model, server, arguments) for model in arguments.models]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
