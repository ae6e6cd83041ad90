"""The vLLM of one base model as a process of this server: started, watched, started again, and ended with it."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx2

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import bound_process
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.vllm_connection import VllmConnection

COMMAND = "FINETUNE_ASSETS_VLLM"
MAX_STARTS = 3
"""How often in a row vLLM may end before it has answered; then its model is our own engine's."""
MAX_LORA_RANK, LORAS_AT_ONCE = 64, 8
_LOOK_SECONDS, _RETRY_SECONDS, _STOP_SECONDS = 0.5, 2.0, 15.0
_START_SECONDS, _FIRST_TOKEN_SECONDS = 1800.0, 600.0
_KEPT_BACK = ("FINETUNE_ASSETS_", "OPENAI_", "AZURE_", "WANDB_", "PYTHON")
"""Beginnings of variables that are nothing of vLLM's: other keys, and where this environment has its packages."""
_SERVER = "vllm.entrypoints.openai.api_server"
_HAS_VLLM = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"

logger = logging.getLogger(__name__)


class VllmMissingError(FinetuneAssetsError, RuntimeError):
    """There is no vLLM that could be started."""


def vllm_command() -> list[str]:
    """Return the Python that has vLLM, and further arguments for vLLM: what `FINETUNE_ASSETS_VLLM` says, or this one.

    Raises:
        VllmMissingError: it has no vLLM, or is no Python, or this is not Linux.
    """
    if sys.platform != "linux":  # others do not say that a process has ended and keep its number
        raise VllmMissingError("--engine vllm runs on Linux; start vLLM yourself and name it by --vllm-url")
    words = shlex.split(os.environ.get(COMMAND, ""))
    if not words and importlib.util.find_spec("vllm") is not None:
        return [sys.executable]
    remedy = (
        f"vLLM pins its own torch: install it in an environment of its own (python3 -m venv ENV; ENV/bin/pip install "
        f"vllm) and name that environment's python: {COMMAND}=ENV/bin/python"
    )
    if not words:
        raise VllmMissingError(f"--engine vllm needs vLLM, which is not installed here. {remedy}")
    try:
        found = subprocess.run([words[0], "-c", _HAS_VLLM], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise VllmMissingError(f"{COMMAND} names {words[0]!r}, which cannot be run ({error}). {remedy}") from None
    if found.returncode:
        raise VllmMissingError(f"{COMMAND} names {words[0]!r}, which is no Python that has vLLM. {remedy}")
    return words


class VllmProcess:
    """Keeps a vLLM running for a base model, from `start` to `stop`.

    Args:
        base: a text model.
        command: a Python, and arguments that vLLM gets beside ours.
        dtype: in which it computes: `float32` or `bfloat16`.
        log: where what it prints goes, anew at each start.
    """

    def __init__(self, base: BaseModel, command: Sequence[str], dtype: str, log: Path) -> None:
        self.base = base
        self.connection: VllmConnection | None = None
        """To the vLLM that answers now; None while none does."""
        self.refused: str | None = None
        """Why it is not started any more."""
        self._command, self._dtype, self._log = list(command), dtype, log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"vLLM of {base.name}", daemon=True)

    def start(self) -> None:
        """Begin to keep it running, and return at once."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and whatever it has started."""
        self._stopping.set()
        self.end_process()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def end_process(self) -> None:
        """End the one that runs; unless all is being stopped, another takes its place."""
        with self._lock:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def pid(self) -> int | None:
        """Of the process that leads its session; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def _run(self) -> None:
        failed = 0
        while not self._stopping.is_set():
            answered = self._live()
            failed = 0 if answered else failed + 1
            if self._stopping.is_set():
                return
            if failed == MAX_STARTS:
                self.refused = f"vLLM ended {failed} times before it answered; its last words are in {self._log}"
                logger.warning("%s: %s; our own engine answers instead", self.base.name, self.refused)
                return
            logger.warning("The vLLM of %s has ended; our own engine answers until it is back", self.base.name)
            self._stopping.wait(_RETRY_SECONDS * failed)

    def _live(self) -> bool:
        """Run it from start to end; returns whether it answered in between."""
        port, key = _free_port(), secrets.token_urlsafe(32)
        with self._lock:
            if self._stopping.is_set():
                return False
            self._process = process = self._begin(port, key)
        try:
            answers = self._wait_for_answer(process, port, key)
            if answers:
                self.connection = VllmConnection(f"http://127.0.0.1:{port}", key)
                logger.info("The vLLM of %s answers", self.base.name)
            else:
                self.end_process()
            # Not collected yet: its number, by which the rest of its session is ended, is nobody else's so long.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            return answers
        finally:
            self.connection = None
            self.end_process()
            with self._lock:
                process.wait()
                self._process = None
            if process.stdin is not None:
                process.stdin.close()

    def _begin(self, port: int, key: str) -> subprocess.Popen[bytes]:
        python, *further = self._command
        # LoRA's buffers are made at the start; `generation_config.json` must not say how tokens are chosen.
        arguments = [
            python, "-m", _SERVER, "--model", self.base.path, "--served-model-name", self.base.name,
            "--host", "127.0.0.1", "--port", str(port), "--dtype", self._dtype, "--generation-config", "vllm",
            "--enable-lora", "--max-lora-rank", str(MAX_LORA_RANK), "--max-loras", str(LORAS_AT_ONCE),
            "--enable-prompt-tokens-details", "--disable-uvicorn-access-log", "--disable-log-stats", *further,
        ]  # fmt: skip
        if self.base.revision is not None:
            arguments += ["--revision", self.base.revision]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)}
        environment |= {"VLLM_API_KEY": key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1"}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-I", str(bound_process.__file__), *arguments],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    def _wait_for_answer(self, process: subprocess.Popen[bytes], port: int, key: str) -> bool:
        """Whether it answers in the end. It may take minutes: it loads the weights and compiles."""
        headers = {"Authorization": f"Bearer {key}"}
        client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=3.0, trust_env=False)
        with client:
            for _ in range(int(_START_SECONDS / _LOOK_SECONDS)):
                if self._stopping.wait(_LOOK_SECONDS) or _has_ended(process):
                    return False
                with suppress(httpx2.HTTPError):
                    if client.get("/health").status_code == 200:
                        return self._says_a_token(client)
        return False

    def _says_a_token(self, client: httpx2.Client) -> bool:
        """Ask for a token: what the processor has no kernel for ends vLLM at its first answer, and not before."""
        asked = {"model": self.base.name, "prompt": [0], "max_tokens": 1, "ignore_eos": True, "return_token_ids": True}
        try:
            answer = client.post("/v1/completions", json=asked, timeout=_FIRST_TOKEN_SECONDS)
            return bool(answer.json()["choices"][0]["token_ids"])
        except (httpx2.HTTPError, ValueError, LookupError, TypeError):
            return False


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
