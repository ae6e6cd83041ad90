"""The real fine-tuning server in a process of its own, as a test starts, kills and asks it."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import openai
import psutil
import yaml

from finetune_assets_tests.forked import Forked
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.tiny_models import write_text_model

KEY = "sk-test-key"
SERVE = """
import json, sys
from pathlib import Path
from finetune_assets.server.app import serve
from finetune_assets.server.shared import Shared
serve(Path(sys.argv[1]), port=0, shared=Shared.from_environment(), **json.loads(sys.argv[2]))
"""


def make_home(home: Path) -> Path:
    """A server's folder whose `tiny-text` trains in seconds; `gpt-4o-mini` is an alias of it."""
    model = write_text_model(home / "tiny-text")
    (home / "models.yaml").write_text(yaml.safe_dump({"tiny-text": str(model), "gpt-4o-mini": "tiny-text"}))
    return home


class ServerProcess:
    """A server on a free port, with the options of `serve`; stopped at the end of the `with` block at the latest."""

    script = SERVE

    def __init__(self, home: Path, key: str | None = KEY, **options: Any) -> None:
        self.home = home
        environment = {k: v for k, v in os.environ.items() if k != "FINETUNE_ASSETS_API_KEY"}
        if key:
            environment["FINETUNE_ASSETS_API_KEY"] = key
        self.errors = home / "server.stderr"
        with self.errors.open("ab") as errors:
            arguments = [str(home), json.dumps(options)]
            self.process = Forked(self.script, arguments, environment | {"OMP_NUM_THREADS": "1"}, errors.fileno())
        self.greeting = self._read_greeting()
        self.base_url = re.search(r"http://\S+", self.greeting)[0]  # pyright: ignore[reportOptionalSubscript]
        self.key = key or (home / "api_key").read_text().strip()

    def client(self) -> openai.OpenAI:
        """The unmodified SDK; it repeats nothing, and refuses answers that do not have the documented shape."""
        return openai.OpenAI(base_url=self.base_url, api_key=self.key, max_retries=0, _strict_response_validation=True)

    def workers(self) -> list[psutil.Process]:
        """The processes that work on jobs."""
        found: list[psutil.Process] = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it has just ended
                found += child.children()  # of the process from which they are forked
        return found

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    def _read_greeting(self) -> str:
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("More models"):
                return "".join(lines)
        raise AssertionError(f"the server did not start:\n{self.errors.read_text()}")
