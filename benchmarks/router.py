"""How long answers of 300 fine-tuned models take on two servers behind the router, against servers asked in turn.

    python benchmarks/router.py --adapters 300 --questions 1500 --concurrency 8

Every model is a LoRA adapter of its own (rank 4, attention) of the bundled language model. Each is asked once, when it
has to come from the store first, and then models are asked at random; an answer is one token. Both arrangements begin
with servers that have just started. At the end one of the routed servers is killed while it is asked: every question
is answered. Database: PostgreSQL; store: a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import numpy as np
import openai
import torch
from _databases import postgresql
from _server import Server, running_server
from safetensors import safe_open
from safetensors.torch import save_file

from finetune_assets.running import free_port
from finetune_assets.server import base_models, checksums
from finetune_assets.server.database.jobs import VALIDATING, JobRequest
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.shared import Shared

BASE = "smollm2-135m-instruct"
RANK = 4


def write_adapter(folder: Path, shapes: dict[str, tuple[int, int]], seed: int) -> None:
    """Write a LoRA adapter in PEFT's format whose matrices are drawn: A as PEFT does, B small instead of zero."""
    folder.mkdir(parents=True)
    drawn = torch.Generator().manual_seed(seed)
    weights = {}
    for module, (out, into) in shapes.items():
        name = f"base_model.model.{module}"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, into, generator=drawn) / into**0.5
        weights[f"{name}.lora_B.weight"] = 0.01 * torch.randn(out, RANK, generator=drawn)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    checksums.write(folder)


def attention_shapes(home: Path) -> dict[str, tuple[int, int]]:
    """Find the query and value projections of the base model, with rows and columns."""
    shapes = {}
    for file in Path(base_models.resolve(BASE, home).path).glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - it is no dictionary
                if name.endswith(("q_proj.weight", "v_proj.weight")):
                    shapes[name.removesuffix(".weight")] = tuple(weights.get_slice(name).get_shape())
    return shapes


def add_models(home: Path, shared: Shared, n: int) -> list[str]:
    """Publish as many fine-tuned models, each as its job would."""
    stores = Stores(home, shared)
    base_models.ensure_config(home)
    shapes, names = attention_shapes(home), []
    for number in range(n):
        asked = JobRequest(
            model=BASE, base=BASE, training_file="file-1", validation_file=None, suffix=f"region-{number}", seed=number,
            hyperparameters={}, metadata=None,
        )  # fmt: skip
        job = stores.jobs.create(asked)
        claim = stores.jobs.claim(job.id, VALIDATING, "benchmark", 3600.0)
        life, weights = stores.job_life.of(claim), stores.models.output(job.id) / "model"
        life.validated(job.id)
        life.started(job.id)
        write_adapter(weights, shapes, number)
        life.succeeded(job.id, path=stores.models.publish(weights, 1), results=b"", trained_tokens=1)
        names.append(job.tuned_model)
    stores.close()
    return names


@contextmanager
def router(servers: Sequence[Server]) -> Iterator[str]:
    """Lead to servers; the base URL."""
    port = free_port(8400)
    urls = [server.base_url for server in servers]
    process = subprocess.Popen([sys.executable, "-m", "finetune_assets.cli", "route", *urls, "--port", str(port)])
    try:
        while True:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
                break
            except httpx2.HTTPError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


class Asking:
    """Clients that ask one or several addresses in turn, and repeat nothing."""

    def __init__(self, urls: Sequence[str], key: str, concurrency: int) -> None:
        self._urls, self._key, self._concurrency = urls, key, concurrency

    async def ask(self, models: Sequence[str]) -> list[float]:
        """Ask each of these models something; the seconds that each answer took."""
        places = asyncio.Semaphore(self._concurrency)
        # Of this event loop alone.
        made = [openai.AsyncOpenAI(base_url=url, api_key=self._key, timeout=600, max_retries=0) for url in self._urls]
        clients = itertools.cycle(made)

        async def one(number: int, model: str) -> float:
            async with places:
                began = time.perf_counter()
                await next(clients).chat.completions.create(
                    model=model, max_tokens=1, temperature=0,
                    messages=[{"role": "user", "content": f"Is number {number} even? Answer Yes or No."}],
                )  # fmt: skip
                return time.perf_counter() - began

        seconds = await asyncio.gather(*(one(number, model) for number, model in enumerate(models)))
        for client in made:
            await client.close()
        return seconds


def told(what: str, seconds: Sequence[float], wall: float) -> None:
    """Print a line of the table."""
    p50, p99 = (1000 * float(np.quantile(seconds, share)) for share in (0.5, 0.99))
    print(f"{what:44} {p50:7.0f} {p99:8.0f} {1000 * max(seconds):8.0f} {len(seconds) / wall:8.1f}", flush=True)


def measured(what: str, asking: Asking, models: Sequence[str]) -> None:
    """Ask, and print what it took."""
    began = time.perf_counter()
    told(what, asyncio.run(asking.ask(models)), time.perf_counter() - began)


@contextmanager
def two_servers(folder: Path, shared: Shared) -> Iterator[list[Server]]:
    """Start two servers on new homes, and let each load the base model."""
    options = ("--jobs", "0", "--database", shared.database or "", "--store", shared.store or "")
    with ExitStack() as ending:
        servers = [ending.enter_context(running_server(*options, home=folder / name)) for name in ("one", "two")]
        for server in servers:
            asyncio.run(Asking([server.base_url], server.key, 1).ask([BASE]))
        yield servers


def brought(folder: Path) -> str:
    """Say how many models each server has brought from the store."""
    counts = [len(list((folder / name / "cache" / "models").glob("*"))) for name in ("one", "two")]
    return " and ".join(map(str, counts))


async def while_one_is_killed(asking: Asking, models: Sequence[str], server: Server) -> list[float]:
    """Ask, and kill a server when about a third is answered."""
    answers = asyncio.ensure_future(asking.ask(models))
    before = server.process.cpu_times().user
    while server.process.cpu_times().user - before < 3.0 and not answers.done():
        await asyncio.sleep(0.05)
    server.process.kill()
    return await answers


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=300)
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--concurrency", type=int, default=8)
    arguments = parser.parse_args()
    os.environ["FINETUNE_ASSETS_API_KEY"] = key = f"sk-{secrets.token_hex(16)}"
    drawn = random.Random(0)
    with tempfile.TemporaryDirectory() as name, postgresql() as database:
        folder, shared = Path(name), Shared(database, f"file://{name}/store")
        models = add_models(folder / "made", shared, arguments.adapters)
        asked = drawn.choices(models, k=arguments.questions)
        print(f"{len(models)} adapters, {arguments.concurrency} questions at once, {os.cpu_count()} cores")
        print(f"{'milliseconds':44} {'p50':>7} {'p99':>8} {'slowest':>8} {'a second':>8}")
        with two_servers(folder / "turns", shared) as servers:
            asking = Asking([server.base_url for server in servers], key, arguments.concurrency)
            measured("in turn, each model once", asking, models)
            measured("in turn, at random", asking, asked)
            print(f"  models on each server: {brought(folder / 'turns')}")
        with two_servers(folder / "routed", shared) as servers, router(servers) as url:
            asking = Asking([url], key, arguments.concurrency)
            measured("routed, each model once", asking, models)
            measured("routed, at random", asking, asked)
            print(f"  models on each server: {brought(folder / 'routed')}")
            began = time.perf_counter()
            seconds = asyncio.run(while_one_is_killed(asking, asked[:500], servers[0]))
            told("routed, one server killed among 500", seconds, time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
