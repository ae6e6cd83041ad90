"""What runs on this machine: the record that a server leaves in its folder, and who holds a port.

A folder's record says where its server is as long as that runs. It is believed only while the process that it names
is alive and was created when the record says: a killed server, or its number given to another process, mislead nobody.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from finetune_assets.errors import AddressInUseError

FILE = "running.json"
"""In the folder of whatever runs."""
SERVER_LOCK = "server.lock"
"""In a fine-tuning server's folder; held open by the server while it runs."""
_SAME_MOMENT_S = 2.0
"""The system tells a process's creation by its own clock, which may be set."""
_LONGEST_COMMAND = 60


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, told from a later one of the same number."""

    pid: int
    created: float
    """Unix seconds."""

    @classmethod
    def of(cls, pid: int | None = None) -> Identity:
        """Return that of a process, by default of this one."""
        process = psutil.Process(pid)
        return cls(process.pid, process.create_time())

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _SAME_MOMENT_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, and where."""

    process: Identity
    url: str
    """Without a path, such as http://127.0.0.1:3000."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What it was started with, as far as others have to know."""

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return urlsplit(self.url).port or 80

    def write(self, home: Path) -> None:
        """Leave the record in a folder, whole or not at all."""
        record = {"pid": self.process.pid, "created": self.process.created, "url": self.url, "settings": self.settings}
        fresh = home / f"{FILE}.{os.getpid()}"
        fresh.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        fresh.replace(home / FILE)


def running(home: Path) -> Running | None:
    """Read the record of a folder; None where nothing runs there."""
    try:
        said = json.loads((home / FILE).read_text("utf-8"))
        found = Running(Identity(int(said["pid"]), float(said["created"])), str(said["url"]), dict(said["settings"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.process.alive else None


@contextmanager
def announced(home: Path, url: str, settings: Mapping[str, str]) -> Iterator[None]:
    """Say in a folder that this process serves it; the record goes with the process, or is no longer believed."""
    Running(Identity.of(), url, settings).write(home)
    try:
        yield
    finally:
        (home / FILE).unlink(missing_ok=True)


def home_id(home: Path) -> str:
    """Return what tells a folder from others and does not say where it is."""
    return hashlib.sha256(f"{os.fspath(home.resolve())}\n{os.getuid()}".encode()).hexdigest()[:16]


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether nobody listens on a port; 0 always is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int) -> int:
    """Return `preferred` if nobody listens there, else one of those after it, else any."""
    nearby = (port for port in range(preferred, min(preferred + 50, 65536)) if is_free(port))
    return next(nearby, 0) or _any_port()


def require_free(port: int, option: str, host: str = "127.0.0.1") -> None:
    """Let nobody wait for a server that cannot listen.

    Raises:
        AddressInUseError: the port is taken; the message says by whom.
    """
    if not is_free(port, host):
        raise AddressInUseError(
            f"port {port} is held by {holder_in_words(port)}: stop that, or choose another with {option}"
        )


def listen(host: str, port: int, backlog: int = 128) -> socket.socket:
    """Listen on an address; port 0 takes a free one.

    Raises:
        AddressInUseError: it cannot be listened on; the message says why, and who does where that is it.
    """
    try:
        return socket.create_server((host, port), backlog=backlog)
    except OSError as error:
        taken = f"; it is held by {holder_in_words(port)}: stop that, or" if error.errno == errno.EADDRINUSE else ";"
        raise AddressInUseError(
            f"cannot listen on {host}:{port} ({error.strerror}){taken} choose another port with --port"
        ) from error


def holder_in_words(port: int) -> str:
    """Say who listens on a port."""
    process = _holder(port)
    if process is None:
        return "a process that this user may not see"
    if (home := _server_home(process)) is not None:
        return f"the fine-tuning server of {home} (process {process.pid})"
    return f"process {process.pid} ({command(process)})"


def server_at(port: int) -> Path | None:
    """Return the folder of the fine-tuning server that listens on a port of this machine; None where it is none."""
    process = _holder(port)
    return _server_home(process) if process else None


def command(process: psutil.Process) -> str:
    """Return how a process was called, shortened."""
    with suppress(psutil.Error):
        if words := process.cmdline():
            said = " ".join([Path(words[0]).name, *words[1:]])
            return said if len(said) <= _LONGEST_COMMAND else f"{said[: _LONGEST_COMMAND - 3]}..."
        return process.name()
    return "?"


def _any_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _holder(port: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", None) == port
            if listens and connection.pid:
                return psutil.Process(connection.pid)
    return None


def _server_home(process: psutil.Process) -> Path | None:
    with suppress(psutil.Error):
        for file in process.open_files():
            if Path(file.path).name == SERVER_LOCK:
                return Path(file.path).parent
    return None
