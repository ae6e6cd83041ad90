"""`serve --engine vllm` with the real vLLM: it answers as our own engine does, and is killed beneath many requests.

It runs with `FINETUNE_ASSETS_LONG_TESTS=1` where `FINETUNE_ASSETS_VLLM` names the Python of an environment with vLLM.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.database.jobs import JobRequest
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.devices import PRECISION
from finetune_assets.server.generation.vllm_process import COMMAND
from finetune_assets_tests.patience import wait_until
from finetune_assets_tests.server.generation.asking import a_lora
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import write_text_model

N_REQUESTS, N_TOKENS, AT_ONCE = 200, 32, 16
WIDTH = 256
"""vLLM has no kernels for the heads of the tiny models, which are narrower."""

pytestmark = [
    pytest.mark.skipif(not os.environ.get("FINETUNE_ASSETS_LONG_TESTS"), reason="FINETUNE_ASSETS_LONG_TESTS=1"),
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


def engines(server: ServerProcess) -> dict[str, Any]:
    """Which engine answers for each model."""
    listed = server.client().models.list()
    return {model.id: (model.model_extra or {}).get("engine") for model in listed if "smollm2" not in model.id}


def vllms(server: ServerProcess) -> list[psutil.Process]:
    """The processes in which vLLM speaks HTTP."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    speaking = [one for one in children if "vllm.entrypoints.openai.api_server" in one.cmdline()]
    return [one for one in speaking if "-I" not in one.cmdline()]


def ask(server: ServerProcess, model: str, number: int) -> str:
    """Ask something, streamed each other time; whatever comes twice makes the answer longer than it may be."""
    question: Any = [{"role": "user", "content": f"Is {number} fine?"}]
    how: Any = {"model": model, "messages": question, "temperature": 0, "max_tokens": N_TOKENS}
    if number % 2:
        return server.client().chat.completions.create(**how).choices[0].message.content or ""
    chunks = server.client().chat.completions.create(**how, stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def answers(server: ServerProcess, models: list[str], after: dict[int, threading.Event]) -> list[str]:
    """The answers to all requests, many at a time; events of `after` are set when so many have come."""
    done = iter(range(1, N_REQUESTS + 1))
    lock = threading.Lock()

    def answer(number: int) -> str:
        said = ask(server, models[number % len(models)], number)
        with lock:
            if event := after.get(next(done)):
                event.set()
        return said

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(answer, range(N_REQUESTS)))


def test_vllm_answers_as_our_own_engine_and_no_answer_is_lost_or_doubled_when_it_is_killed(home: Path) -> None:
    with ServerProcess(home) as server:
        models = list(engines(server))
        assert len(models) == 3
        expected = answers(server, models, {})
    with ServerProcess(home, engine="vllm") as server:
        assert set(engines(server).values()) == {"own"}  # until vLLM is there
        assert ask(server, models[1], 1) == expected[1]
        wait_until(lambda: set(engines(server).values()) == {"vllm"})
        assert [ask(server, models[n % 3], n) for n in range(12)] == expected[:12]
        assert set(engines(server).values()) == {"vllm"}  # it has taken both adapters
        (running,) = vllms(server)
        some = threading.Event()
        killer = threading.Thread(target=lambda: some.wait() and running.send_signal(signal.SIGKILL))
        killer.start()
        assert answers(server, models, {N_REQUESTS // 4: some}) == expected
        killer.join()
        assert not running.is_running()
        wait_until(lambda: set(engines(server).values()) == {"vllm"})
        assert [ask(server, models[n % 3], n) for n in range(12)] == expected[:12]
        left = psutil.Process(server.process.pid).children(recursive=True)
    psutil.wait_procs(left, timeout=30)
    assert [one for one in left if one.is_running()] == []
