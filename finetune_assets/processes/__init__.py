"""The two processes beside a demo or UI, the fine-tuning server and Dagster: one of each for a folder, shared by all.

A command uses the one that runs, or starts it; whoever uses it last ends it (see `shared`). One that a person started,
by `finetune-assets serve`, is used and left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import psutil

from finetune_assets.processes.shared import Joined, ProcessError, Service, StartError, joined
from finetune_assets.provider.local_server import HOME as SERVER_HOME
from finetune_assets.provider.local_server import PORT as SERVER_PORT
from finetune_assets.provider.local_server import URL_VARIABLE, named_url
from finetune_assets.results.region import default_root
from finetune_assets.running import command
from finetune_assets.server.devices import PRECISION, wanted_precision
from finetune_assets.task.places import task_folders

__all__ = [
    "DAGSTER_PORT",
    "VAR",
    "Joined",
    "ProcessError",
    "StartError",
    "dagster",
    "dagster_home",
    "fine_tuning_server",
    "our_command",
    "served",
    "until_one_ends",
]

DAGSTER_PORT = 3000
VAR = Path("var")
_LOOK_SECONDS = 5.0
Say = Callable[[str], None]


@contextmanager
def fine_tuning_server(say: Say, port: int | None = None) -> Iterator[Joined]:
    """The working directory's fine-tuning server, for the duration; `port` is one that it must have.

    Raises:
        AddressInUseError: somebody else listens on `port`.
        ProcessError: the server runs on another port than `port`, or in another precision than is asked for.
        PrecisionError: `FINETUNE_ASSETS_DTYPE` names no precision.
        StartError: it does not start.
    """
    precision = wanted_precision()
    service = Service(
        name="the fine-tuning server",
        home=SERVER_HOME.resolve(),
        log=VAR / "logs" / "server.log",
        preferred_port=SERVER_PORT,
        option="--server-port",
        health="/healthz",
        command=lambda port: [sys.executable, "-m", "finetune_assets.cli", "serve", "--port", str(port)],
        settings={} if precision == "auto" else {PRECISION: precision},
        before=_install_base_models,
        announces_itself=True,
    )
    with joined(service, say, port) as server:
        yield server


@contextmanager
def served(say: Say, *providers: str, port: int | None = None) -> Iterator[Joined | None]:
    """What has to run here for these providers, for the duration: the folder's server, where one of them is `local`.

    None where it need not: there is no `local`, or the environment names a server elsewhere for it.

    Raises:
        ProcessError, StartError: as `fine_tuning_server`.
        ProviderError: the environment names no server's address.
    """
    if "local" not in providers:
        yield None
    elif (named := named_url()) is None:
        with fine_tuning_server(say, port) as server:
            yield server
    elif port is not None:
        raise ProcessError(f"{URL_VARIABLE} names {named} as the server: leave --server-port out, or unset it")
    else:
        say(f"The fine-tuning server is {named}, as {URL_VARIABLE} says.")
        yield None


@contextmanager
def dagster(say: Say, port: int | None = None) -> Iterator[Joined]:
    """The Dagster webserver with its daemon on DAGSTER_HOME (default `var/dagster`), for the duration.

    Raises:
        AddressInUseError: somebody else listens on `port`.
        ProcessError: Dagster runs on this home already, on another port, for another folder or by another command.
        StartError: it does not start.
    """
    home = dagster_home()
    workspace = resources.files("finetune_assets.pipeline").joinpath("workspace.yaml")
    start = [sys.executable, "-m", "dagster", "dev", "--workspace", str(workspace), "--host", "127.0.0.1"]
    service = Service(
        name="Dagster",
        home=home,
        log=VAR / "logs" / "dagster.log",
        preferred_port=DAGSTER_PORT,
        option="--port",
        health="/server_info",
        command=lambda port: [*start, "--port", str(port)],
        environment={"DAGSTER_HOME": str(home)},
        settings={
            "folder": str(Path.cwd()),
            "FINETUNE_ASSETS_DATA": default_root(),
            URL_VARIABLE: named_url() or "",
            "FINETUNE_ASSETS_TASKS": os.pathsep.join(map(str, task_folders())),
        },
        before=lambda say: _prepare_home(home, say),
    )
    with joined(service, say, port) as server:
        yield server


def dagster_home() -> Path:
    """DAGSTER_HOME, made with our `dagster.yaml` if it is not there."""
    home = Path(os.environ.get("DAGSTER_HOME") or VAR / "dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        packaged = resources.files("finetune_assets.pipeline").joinpath("dagster.yaml")
        with resources.as_file(packaged) as template:
            shutil.copyfile(template, home / "dagster.yaml")
    return home


def until_one_ends(*services: Joined) -> None:
    """Wait.

    Raises:
        StartError: one of them has ended; the message ends with its log.
    """
    while True:
        psutil.wait_procs([psutil.Process(service.running.process.pid) for service in services], timeout=_LOOK_SECONDS)
        for service in services:
            service.require_alive()


def our_command(arguments: str) -> str:
    """Return a command of ours as it can be typed here: bare where it is on the PATH, else with its folder."""
    here = Path(sys.executable).with_name("finetune-assets")
    found = shutil.which("finetune-assets")
    if found and Path(found).resolve() == here.resolve():
        return f"finetune-assets {arguments}"
    with_folder = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    return f"{with_folder} {arguments}"


def _install_base_models(say: Say) -> None:
    """Make the bundled models before the server is waited for: pip's progress is to be seen, not to be in a log."""
    from finetune_assets.server import base_models

    if (base_models.SHARE / base_models.TEXT_MODEL).exists():
        return
    say("The base models are made first, once for this environment (about a minute).")
    done = subprocess.run([sys.executable, "-m", "finetune_assets.server.base_models"], check=False)
    if done.returncode:
        raise StartError("the base models could not be made; the lines above say why")


def _prepare_home(home: Path, say: Say) -> None:
    from finetune_assets.pipeline.reruns.interrupted import end_interrupted_runs

    _require_no_other_daemon(home)
    if (home / "history").exists() and (n := end_interrupted_runs(home)):
        say(f"Runs that were under way when Dagster was stopped: {n}. Dagster starts them again, unless cancelled.")


def _require_no_other_daemon(home: Path) -> None:
    """Refuse a second daemon: two on one home launch every run twice.

    Raises:
        ProcessError: one runs that has no record of ours.
    """
    for process in psutil.process_iter():
        try:
            is_daemon = any(word.endswith(("dagster-daemon", "dagster._daemon")) for word in process.cmdline()[:4])
            if is_daemon and Path(process.environ().get("DAGSTER_HOME") or "/").resolve() == home:
                parent = process.parent()
                by = f"process {parent.pid}, {command(parent)}" if parent and parent.pid > 1 else command(process)
                raise ProcessError(
                    f"a daemon of Dagster runs on {home} already (process {process.pid}, started by {by}), and two "
                    "would launch every run twice: stop that one, or set DAGSTER_HOME to another folder"
                )
        except psutil.Error:
            continue
