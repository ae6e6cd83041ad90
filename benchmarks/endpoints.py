"""How fast the files and jobs endpoints answer 200 clients at once, while the server is idle and while a job trains.

    python benchmarks/endpoints.py --clients 200 --seconds 20

Two loads, each measured in both states. `polling`: each client asks, rests for a quarter of a second and asks again,
as clients do that watch a job. `closed loop`: each client asks again at once, which shows the most that the server
can do. The server is a process of its own on a temporary folder; the job trains the bundled language model.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import time
from collections import defaultdict

import numpy as np
import openai
import orjson
from _server import Server, running_server

MODEL = "smollm2-135m-instruct"
REST_S = 0.25
TARGET_MS = 250
"""What 99 of 100 requests about jobs should stay below while a job trains."""
WARM_UP_S = 2.0

Latencies = dict[str, list[float]]
"""Seconds each request took, by endpoint."""


def training_file() -> bytes:
    """Make 200 short examples: an epoch of them takes about a minute on two cores."""
    return b"\n".join(
        orjson.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Is number {i} even?"},
                    {"role": "assistant", "content": "No" if i % 2 else "Yes"},
                ]
            }
        )
        for i in range(200)
    )


def start_training(client: openai.OpenAI) -> str:
    """Create a job, and return its id once it trains."""
    file = client.files.create(file=("train.jsonl", training_file()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=file.id, hyperparameters={"n_epochs": 50})
    while not any(event.type == "metrics" for event in client.fine_tuning.jobs.list_events(job.id).data):
        if client.fine_tuning.jobs.retrieve(job.id).status == "failed":
            raise SystemExit("the job failed")
        time.sleep(0.5)
    return job.id


def requests(server: Server, job: str, file: str) -> dict[str, bytes]:
    """Make the bytes of a request to each endpoint."""
    form = (
        '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nsome bytes\r\n--b--\r\n'
    )
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {server.key}\r\n"
    form_head = f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(form)}\r\n"
    gets = {
        "retrieve job": f"fine_tuning/jobs/{job}",
        "list jobs": "fine_tuning/jobs",
        "list events": f"fine_tuning/jobs/{job}/events",
        "retrieve file": f"files/{file}",
        "list files": "files?limit=20",
    }
    made = {name: f"GET /v1/{path} HTTP/1.1\r\n{head}\r\n" for name, path in gets.items()}
    made["upload file"] = f"POST /v1/files HTTP/1.1\r\n{head}{form_head}\r\n{form}"
    return {name: request.encode() for name, request in made.items()}


async def ask_until(end: float, server: Server, asked: dict[str, bytes], rest_s: float) -> Latencies:
    """One client: ask the endpoints in turn over one connection until `end`.

    It speaks HTTP by itself, because a full client would take more of the cores than the server does.
    """
    taken: Latencies = defaultdict(list)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    turns = list(asked.items())
    random.shuffle(turns)
    await asyncio.sleep(random.uniform(0, rest_s))
    for name, request in itertools.cycle(turns):
        if time.perf_counter() >= end:
            break
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"{name}: {head.decode()}")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        taken[name].append(time.perf_counter() - began)
        await asyncio.sleep(random.uniform(0.5, 1.5) * rest_s)
    writer.close()
    return taken


async def load(server: Server, asked: dict[str, bytes], clients: int, seconds: float, rest_s: float) -> Latencies:
    """Let all clients ask for a while; the latencies of all of them."""
    end = time.perf_counter() + seconds
    taken: Latencies = defaultdict(list)
    for one in await asyncio.gather(*(ask_until(end, server, asked, rest_s) for _ in range(clients))):
        for name, seconds_taken in one.items():
            taken[name] += seconds_taken
    return taken


def percentile_ms(taken: list[float], q: float) -> float:
    """Latency in milliseconds that `q` percent of the requests stayed below."""
    return float(np.percentile(taken, q)) * 1000


def report(load_name: str, idle: Latencies, training: Latencies, seconds: float) -> None:
    """Print a line for each endpoint, and the ratio between the two states."""
    columns = f"{'p50 ms':>8} {'p99 ms':>8} {'req/s':>8}"
    print(f"\n{load_name:14} | {'idle':^26} | {'while a job trains':^26} | p99, training")
    print(f"{'':14} | {columns} | {columns} | over idle")
    for name in idle:
        cells = [
            f"{percentile_ms(taken, 50):8.1f} {percentile_ms(taken, 99):8.1f} {len(taken) / seconds:8.1f}"
            for taken in (idle[name], training[name])
        ]
        ratio = percentile_ms(training[name], 99) / percentile_ms(idle[name], 99)
        print(f"{name:14} | {cells[0]} | {cells[1]} | {ratio:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20, help="of each of the four measurements")
    arguments = parser.parse_args()
    loads = {"polling": REST_S, "closed loop": 0.0}
    with running_server() as server:
        client = openai.OpenAI(base_url=server.base_url, api_key=server.key)
        file = client.files.create(file=("a.txt", b"some bytes"), purpose="user_data").id
        example = client.files.create(file=("train.jsonl", training_file()), purpose="fine-tune").id
        finished = client.fine_tuning.jobs.create(model=MODEL, training_file=example).id
        client.fine_tuning.jobs.cancel(finished)

        def measure(job: str, rest_s: float) -> Latencies:
            asked = requests(server, job, file)
            asyncio.run(load(server, asked, arguments.clients, WARM_UP_S, rest_s))
            return asyncio.run(load(server, asked, arguments.clients, arguments.seconds, rest_s))

        before = server.memory_mb()
        idle = {name: measure(finished, rest_s) for name, rest_s in loads.items()}
        job = start_training(client)
        training = {name: measure(job, rest_s) for name, rest_s in loads.items()}
        client.fine_tuning.jobs.cancel(job)
        for name in loads:
            report(name, idle[name], training[name], arguments.seconds)
        print(f"\nserver memory: {before:.0f} MB before, {server.memory_mb():.0f} MB after")
        worst = max(
            percentile_ms(training["polling"][name], 99)
            for name in training["polling"]
            if "job" in name or "event" in name
        )
        print(f"p99 of the job endpoints while training, polling: {worst:.0f} ms at worst (target: {TARGET_MS} ms)")


if __name__ == "__main__":
    main()
