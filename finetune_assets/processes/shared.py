"""One process for each folder, used by several commands: the first one starts it, the last one ends it.

Beside the record of what runs (see `running`) the folder has `users.json`: who uses it, and which process was started
on their behalf. Both are changed under a lock, which is held while the process starts and while it ends.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.processes.family import answers, spawn, stop, uninterrupted
from finetune_assets.running import FILE, Identity, Running, free_port, holder_in_words, is_free, require_free, running

_START_SECONDS = 300.0
_TELL_SECONDS = 10.0
"""After so many of waiting, and again, a person is told for what."""
_TRIES = 3
"""Of ports: between the look and the start another process may take one."""
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
Say = Callable[[str], None]


class StartError(FinetuneAssetsError, RuntimeError):
    """A process ended, or stayed silent, before it was ready. The message ends with its log."""


class ProcessError(FinetuneAssetsError, RuntimeError):
    """What runs in a folder is not what was asked for."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A process of which a folder has one."""

    name: str
    """In a sentence."""
    home: Path
    log: Path
    preferred_port: int
    option: str
    """Of the command line, that states the port."""
    health: str
    """Path that answers once it is ready."""
    command: Callable[[int], list[str]]
    """What starts it on a port."""
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    """What whoever uses it must agree on."""
    before: Callable[[Say], None] = lambda _: None
    """What is done, or refused, before it is started."""
    announces_itself: bool = False
    """Whether it writes its own record."""


@dataclass(frozen=True)
class Joined:
    """A service as one of its users sees it."""

    service: Service
    running: Running

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return self.running.url

    def others(self) -> list[str]:
        """Name the other commands that use it, such as "`ui` (process 12)"."""
        return [user.words for user in _Users.read(self.service.home).users if user.process != Identity.of()]

    def require_alive(self) -> None:
        """Raise a `StartError` with the end of its log if it has ended."""
        if not self.running.process.alive:
            raise StartError(
                f"{_capital(self.service.name)} has ended. End of {self.service.log}:\n{_tail(self.service.log)}"
            )


@contextmanager
def joined(service: Service, say: Say, port: int | None = None) -> Iterator[Joined]:
    """Use the service of a folder: the one that runs, or one that is started; the last user ends what was started.

    Args:
        service: What is used.
        say: Told what is waited for, and what is not as usual.
        port: The one it must have; None takes any.

    Raises:
        AddressInUseError: the port is taken.
        ProcessError: what runs has another port or other settings.
        StartError: it does not start.
    """
    service.home.mkdir(parents=True, exist_ok=True)
    mine: Running | None = None
    try:
        with _turn(service, say):
            found = running(service.home)
            if found is None:
                found = _started(service, say, port)
            else:
                _require_fit(service, found, port)
            mine = found
            _Users.join(service.home)
        yield Joined(service, mine)
    finally:
        if mine is not None:
            with uninterrupted():
                _leave(service, mine, say)


@dataclass(frozen=True)
class _User:
    process: Identity
    command: str

    @property
    def words(self) -> str:
        return f"`{self.command}` (process {self.process.pid})"


@dataclass(frozen=True)
class _Users:
    """Who uses a service, those that are alive, and which process was started for them."""

    started: Identity | None = None
    users: tuple[_User, ...] = ()

    @classmethod
    def read(cls, home: Path) -> _Users:
        try:
            said = json.loads((home / "users.json").read_text("utf-8"))
            users = tuple(_User(Identity(**user["process"]), str(user["command"])) for user in said["users"])
            started = Identity(**said["started"]) if said["started"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
        return cls(started, tuple(user for user in users if user.process.alive))

    def write(self, home: Path) -> None:
        fresh = home / f"users.json.{os.getpid()}"
        fresh.write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")
        fresh.replace(home / "users.json")

    @classmethod
    def join(cls, home: Path) -> None:
        now, me = cls.read(home), Identity.of()
        others = tuple(user for user in now.users if user.process != me)
        cls(now.started, (*others, _User(me, " ".join(sys.argv[1:2]) or Path(sys.argv[0]).name))).write(home)


@contextmanager
def _turn(service: Service, say: Say) -> Iterator[None]:
    """Wait until no other command starts or ends the service."""
    lock = FileLock(service.home / "users.lock")
    told = False
    while True:
        try:
            lock.acquire(timeout=_TELL_SECONDS if told else 1)
            break
        except Timeout:
            if not told:
                say(f"Another command is starting or ending {service.name}; waiting for it ...")
            told = True
    try:
        yield
    finally:
        lock.release()


def _require_fit(service: Service, found: Running, port: int | None) -> None:
    who = f"{_capital(service.name)} of this folder runs already, at {found.url} (process {found.process.pid})"
    if port is not None and port != found.port:
        raise ProcessError(f"{who}, and not on port {port}: leave {service.option} out, or stop it first")
    for name, wanted in service.settings.items():
        if (has := found.settings.get(name, "")) != wanted:
            raise ProcessError(
                f"{who}, with the {name} {has or 'empty'}, here it is {wanted or 'empty'}: stop it first"
            )


def _started(service: Service, say: Say, stated: int | None) -> Running:
    service.before(say)
    for attempt in range(1, _TRIES + 1):
        port = _port(service, say, stated)
        log_from = service.log.stat().st_size if service.log.exists() else 0
        process = spawn(service.command(port), service.log, service.environment)
        try:
            url = f"http://127.0.0.1:{port}"
            _await(service, process, f"{url}{service.health}", log_from, say)
            if not service.announces_itself:
                Running(Identity.of(process.pid), url, service.settings).write(service.home)
            found = running(service.home)
            if found is None or found.process.pid != process.pid:
                raise StartError(f"{_capital(service.name)} did not say in {service.home / FILE} that it runs at {url}")
            _Users(found.process, _Users.read(service.home).users).write(service.home)
            return found
        except BaseException as error:
            if process.poll() is None:
                with uninterrupted():
                    stop(Identity.of(process.pid))
            lost_the_port = stated is None and isinstance(error, StartError) and not is_free(port)
            if not lost_the_port or attempt == _TRIES:
                raise
    raise AssertionError("unreachable")


def _port(service: Service, say: Say, stated: int | None) -> int:
    if stated is not None:
        require_free(stated, service.option)
        return stated
    port = free_port(service.preferred_port)
    if port != service.preferred_port:
        who = holder_in_words(service.preferred_port)
        say(f"Port {service.preferred_port} is held by {who}: {service.name} takes {port}.")
    return port


def _await(service: Service, process: subprocess.Popen[bytes], url: str, log_from: int, say: Say) -> None:
    """Wait until a process answers, and tell a person who waits with it what it does."""
    began = time.monotonic()
    tell_at = began + _TELL_SECONDS
    # Where it has ended, it is another's server that answers.
    while process.poll() is not None or not answers(url):
        waited = time.monotonic() - began
        if process.poll() is not None or waited > _START_SECONDS:
            how = "ended" if process.poll() is not None else f"did not answer within {_START_SECONDS:.0f} s"
            raise StartError(f"{_capital(service.name)} {how}. End of {service.log}:\n{_tail(service.log, log_from)}")
        if time.monotonic() > tell_at:
            tell_at += _TELL_SECONDS
            last = _tail(service.log, log_from, lines=1)[:160] or "nothing yet"
            say(f"{_capital(service.name)} is starting, {waited:.0f} s so far; the last line of {service.log}: {last}")
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.3)


def _tail(log: Path, start: int = 0, lines: int = 15) -> str:
    """Return the last lines of what was written after `start` bytes."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 64 * 1024))
        text = _COLOUR.sub("", file.read().decode("utf-8", "replace"))
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def _leave(service: Service, found: Running, say: Say) -> None:
    """Go; the last one ends what was started for all, and another is told who goes on."""
    with FileLock(service.home / "users.lock"):
        now = _Users.read(service.home)
        others = tuple(user for user in now.users if user.process != Identity.of())
        if others or now.started is None:
            _Users(now.started, others).write(service.home)
        elif found.process == now.started:
            stop(found.process)
            for name in (FILE, "users.json"):
                (service.home / name).unlink(missing_ok=True)
    if others:
        used_by = " and ".join(user.words for user in others)
        say(f"{_capital(service.name)} goes on at {found.url}, used by {used_by}.")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
