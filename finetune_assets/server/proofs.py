"""Which models of `models.yaml` this machine trains and serves as their makers meant, tried before one is asked for.

`finetune-assets serve` loads each of them that lies on this machine, with the self-test of a load (see `model.proof`)
and a rehearsal of training (see `training.rehearsal`): one after the other, in processes that give way to the server
and give their memory back. What is found is kept in `<home>/proofs.json` as long as neither the model's files nor what
computes with them change.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from finetune_assets.errors import BaseModelError
from finetune_assets.server import base_models, durable
from finetune_assets.server.base_models import Meaning
from finetune_assets.server.devices import PRECISION, cuda_devices

_COMPUTING = ("torch", "torchvision", "transformers", "tokenizers", "peft", "num2words", "bitsandbytes")
_WEIGHTS = ("*.safetensors", "*.bin")
_NICENESS = 10


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a configured model."""

    name: str
    """As `models.yaml` has it; names of one model share what is known."""
    state: Literal["passed", "untrainable", "refused", "untried", "absent"]
    """`untrainable`: it answers, and takes no jobs. `absent`: its weights are not on this machine; they are fetched,
    and tried, when it is first asked for."""
    reason: str = ""
    """Why it is refused, or takes no jobs, or why the context of one that passed ends before its files say."""


def proofs(home: Path) -> list[Proof]:
    """What is known of every name that stands for a model that is not bundled.

    Raises:
        BaseModelError: `models.yaml` cannot be read.
    """
    kept = _kept(home)
    return [_proof(name, home, kept) for name in base_models.names(home) if not _is_bundled(name, home)]


def refusal(name: str, home: Path) -> str | None:
    """Why a configured model is refused; None where that is not known of it."""
    return _reason(name, home, "refused")


def job_refusal(name: str, home: Path) -> str | None:
    """Why a configured model is refused, or takes no jobs; None where neither is known of it."""
    return _reason(name, home, "refused", "untrainable")


def _reason(name: str, home: Path, *states: str) -> str | None:
    if name not in base_models.names(home) or _is_bundled(name, home):
        return None
    found = _proof(name, home, _kept(home))
    return found.reason if found.state in states else None


@contextmanager
def proving(home: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Try meanwhile what has not been tried yet, and tell what came of it."""
    prover = _Prover(home.resolve(), tell)
    prover.start()
    try:
        yield
    finally:
        prover.stop()


class _Prover:
    """A thread that waits for one process after the other."""

    def __init__(self, home: Path, tell: Callable[[str], None]) -> None:
        self._home, self._tell = home, tell
        self._stopping = False
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="proofs", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the process that runs; what it tried stays untried."""
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        tried: set[str] = set()
        with suppress(BaseModelError):  # the server itself says what is wrong with models.yaml
            for name in [proof.name for proof in proofs(self._home) if proof.state == "untried"]:
                canonical = base_models.follow(name, self._home).canonical
                if canonical not in tried and not self._stopping:
                    tried.add(canonical)
                    self._try(canonical)

    def _try(self, name: str) -> None:
        with self._lock:
            if self._stopping:
                return
            process = self._process = _started(self._home, name)
        with process:
            said = process.stderr.read() if process.stderr else ""
        if self._stopping:
            return
        found = _proof(name, self._home, _kept(self._home))
        if process.returncode or found.state == "untried":
            why = " ".join(said.split())[-300:] or "its files change"
            self._tell(f"Not tried:          {name} (exit code {process.returncode}: {why})")
        elif found.state == "refused":
            self._tell(f"Refused:            {name}: {found.reason}")
        elif found.state == "untrainable":
            self._tell(f"Answers only:       {name}: {found.reason}")
        else:
            shortened = f" ({found.reason})" if found.reason else ""
            self._tell(f"Passed:             {name}{shortened}")


def _started(home: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "finetune_assets.server.proofs", "--home", str(home), "--model", name],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,  # its end is how the process knows that the server is gone
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _is_bundled(name: str, home: Path) -> bool:
    try:
        return base_models.follow(name, home).model in base_models.BUNDLED
    except BaseModelError:
        return False


def _proof(name: str, home: Path, kept: dict[str, dict[str, str]]) -> Proof:
    try:
        meaning = base_models.follow(name, home)
    except BaseModelError as error:
        return Proof(name, "refused", str(error))
    if (folder := _folder(meaning)) is None:
        return Proof(name, "absent")
    found = kept.get(meaning.canonical, {})
    if found.get("identity") != _identity(folder, meaning):
        return Proof(name, "untried")
    if found["problem"]:
        return Proof(name, "refused", found["problem"])
    if found.get("untrainable"):
        return Proof(name, "untrainable", found["untrainable"])
    return Proof(name, "passed", found.get("shortened", ""))


def _folder(meaning: Meaning) -> Path | None:
    """Where the files of a model are on this machine; None where its weights have yet to be fetched."""
    model = meaning.model
    if Path(model).is_dir():
        return Path(model)
    try:
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(model, "config.json", revision=meaning.revision)
    except (ImportError, ValueError):  # no id of the hub
        return None
    if not isinstance(config, str) or not any(any(Path(config).parent.glob(kind)) for kind in _WEIGHTS):
        return None
    return Path(config).parent


def _identity(folder: Path, meaning: Meaning) -> str:
    """What a proof holds for: the model's files, the code and the libraries that compute, and in which precision."""
    stats = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    how = (os.environ.get(PRECISION), bool(cuda_devices()), _computing())
    return hashlib.sha256(
        repr((str(folder.resolve()), meaning.revision, meaning.four_bit, files, how)).encode()
    ).hexdigest()


@lru_cache(maxsize=1)
def _computing() -> str:
    said = hashlib.sha256()
    for room in ("generation", "model", "training"):
        for file in sorted((Path(__file__).parent / room).glob("*.py")):
            said.update(file.read_bytes())
    for name in _COMPUTING:
        try:
            said.update(f"{name} {version(name)}\n".encode())
        except PackageNotFoundError:
            said.update(f"no {name}\n".encode())
    return said.hexdigest()


def _kept(home: Path) -> dict[str, dict[str, str]]:
    try:
        return json.loads((home / "proofs.json").read_text())
    except (OSError, ValueError):  # nothing has been tried, or it is tried again
        return {}


def _prove(name: str, home: Path) -> None:
    """Load a model as a job or a request would, rehearse a job, and keep what comes of it."""
    meaning = base_models.follow(name, home)
    folder, canonical = _folder(meaning), meaning.canonical
    if folder is None:
        return
    identity = _identity(folder, meaning)
    from finetune_assets.server.model.network import load
    from finetune_assets.server.training import rehearsal

    problem = shortened = untrainable = ""
    try:
        network = load(base_models.resolve(canonical, home))
        if network.shortened:
            shortened = f"its context ends at {network.max_length:,} tokens: {network.shortened}"
        untrainable = rehearsal.fails(network) or ""
    except BaseModelError as error:
        if _of_the_machine(error.__cause__):
            raise
        problem = " ".join(str(error).split())
    names = set(base_models.names(home))
    kept = {known: found for known, found in _kept(home).items() if known in names}
    kept[canonical] = {
        "identity": identity, "problem": problem, "shortened": shortened, "untrainable": untrainable,
    }  # fmt: skip
    durable.write(home / "proofs.json", json.dumps(kept, indent=1).encode())


def _of_the_machine(cause: BaseException | None) -> bool:
    """Whether an error tells of want of memory or descriptors, for example, and so nothing about the model."""
    return isinstance(cause, OSError) and cause.errno not in (None, errno.ENOENT)


def _end_with_the_server() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Try one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the server's folder")
    parser.add_argument("--model", required=True, help="a name of models.yaml")
    arguments = parser.parse_args()
    os.nice(_NICENESS)
    with suppress(OSError):  # when memory runs out, Linux is to end this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    _prove(arguments.model, arguments.home)


if __name__ == "__main__":
    main()
