"""`serve --engine vllm` with the real vLLM: it answers as our own engine does, and is killed beneath many requests.

It runs with `FINETUNE_ASSETS_LONG_TESTS=1` where `FINETUNE_ASSETS_VLLM` names the Python of an environment with vLLM.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
import yaml

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.database.jobs import JobRequest
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.devices import PRECISION
from finetune_assets.server.generation.vllm_process import COMMAND
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.server.generation.asking import a_lora
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import write_text_model

N_REQUESTS, N_TOKENS, AT_ONCE = 200, 32, 16
WIDTH = 256
"""vLLM has no kernels for the heads of the tiny models, which are narrower."""

START_S = 1200.0
"""vLLM starts in a minute, and in several where other work is done beside it."""

pytestmark = [
    pytest.mark.timeout(2 * START_S + 600),
    long,
    pytest.mark.skipif(not os.environ.get(COMMAND), reason=f"{COMMAND} names no Python with vLLM"),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server's folder with a text model in float32 and two fine-tuned ones of it."""
    monkeypatch.setenv(PRECISION, "float32")
    path = write_text_model(tmp_path / "tiny", width=WIDTH)
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"tiny": str(path)}))
    stores = Stores(tmp_path)
    for seed, name in enumerate(("one", "two"), 1):
        request = JobRequest(model="tiny", base="tiny", training_file="file-x", validation_file=None, suffix=name,
                             seed=1, hyperparameters={}, metadata={"name": name})  # fmt: skip
        job = stores.jobs.create(request)
        stores.job_life.validated(job.id)
        stores.job_life.started(job.id)
        folder = a_lora(BaseModel("tiny", str(path), vision=False), stores.models.output(job.id), seed)
        stores.job_life.succeeded(job.id, path=stores.models.publish(folder), results=b"", trained_tokens=1)
    stores.close()
    return tmp_path


def engines(client: openai.OpenAI) -> dict[str, Any]:
    """Which engine answers for each model."""
    listed = client.models.list()
    return {model.id: (model.model_extra or {}).get("engine") for model in listed if "smollm2" not in model.id}


def counted(server: ServerProcess) -> dict[str, int]:
    """How many requests vLLM answered to the end, and with how many our own engine had to go on."""
    told = httpx2.get(server.base_url.removesuffix("/v1") + "/metrics").text
    return {state: int(float(n)) for state, n in re.findall(r'vllm_requests\{state="(\w+)"\} (\S+)', told)}


def wait_for_vllm(client: openai.OpenAI) -> None:
    deadline = time.monotonic() + START_S
    while set(found := engines(client).values()) != {"vllm"}:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def vllms(server: ServerProcess) -> list[psutil.Process]:
    """The processes in which vLLM speaks HTTP."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    speaking = [one for one in children if "vllm.entrypoints.openai.api_server" in one.cmdline()]
    return [one for one in speaking if "-I" not in one.cmdline()]


def ask(client: openai.OpenAI, model: str, number: int) -> str:
    """Ask something, streamed each other time; whatever comes twice makes the answer another."""
    question: Any = [{"role": "user", "content": f"Is {number} fine?"}]
    how: Any = {"model": model, "messages": question, "temperature": 0, "max_tokens": N_TOKENS}
    if number % 2:
        return client.chat.completions.create(**how).choices[0].message.content or ""
    chunks = client.chat.completions.create(**how, stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def answers(client: openai.OpenAI, models: list[str], n: int = N_REQUESTS, half_way: Any = None) -> list[str]:
    """The answers to so many requests, many at a time; the event `half_way` is set when half of them have come."""
    come: list[int] = []

    def answer(number: int) -> str:
        said = ask(client, models[number % len(models)], number)
        come.append(number)
        if half_way is not None and len(come) >= n // 2:
            half_way.set()
        return said

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(answer, range(n)))


def test_vllm_answers_as_our_own_engine_and_no_answer_is_lost_or_doubled_when_it_is_killed(home: Path) -> None:
    with ServerProcess(home) as server:
        models = list(engines(server.client()))
        assert len(models) == 3
        expected = answers(server.client(), models)
    with ServerProcess(home, engine="vllm") as server, server.client() as client:
        assert ask(client, models[1], 1) == expected[1]  # by our own engine, until vLLM is there
        wait_for_vllm(client)
        assert answers(client, models, 12) == expected[:12]
        assert counted(server) == {"answered": 12, "given_back": 0}
        (running,) = vllms(server)
        half_way = threading.Event()
        killer = threading.Thread(target=lambda: half_way.wait() and running.send_signal(signal.SIGKILL))
        killer.start()
        assert answers(client, models, half_way=half_way) == expected
        killer.join()
        assert counted(server)["given_back"] > 0
        assert not running.is_running()
        wait_for_vllm(client)
        before = counted(server)["answered"]
        assert answers(client, models, 12) == expected[:12]
        assert counted(server)["answered"] == before + 12
        left = psutil.Process(server.process.pid).children(recursive=True)
    psutil.wait_procs(left, timeout=30)
    assert [one for one in left if one.is_running()] == []
