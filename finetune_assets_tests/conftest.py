"""Fixtures that all tests share: one real fine-tuning server, and the unmodified SDK speaking to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import openai
import pytest
from alembic.script import ScriptDirectory
from hypothesis import settings

from finetune_assets_tests.postgres_server import running_postgres
from finetune_assets_tests.server_process import ServerProcess, make_home

# Tests run side by side; threads of one that wait for those of another would only heat the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The first example pays for imports, and a busy machine for its neighbours: neither is a failure.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
pytest_plugins = ["finetune_assets_tests.canaries", "finetune_assets_tests.finished_region"]


@pytest.fixture(scope="session", autouse=True)
def no_reviewers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A reviewers' database in which nobody reviews, instead of the one of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as environment:
        file = tmp_path_factory.mktemp("reviewers") / "feedback.sqlite"
        environment.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{file}")
        yield


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """Each Dagster instance that a test makes would read the ninety files of its storages' migrations three times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", cache(ScriptDirectory.from_config))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server. Without fsync, which matters to a machine that crashes, not to a process."""
    with running_postgres("fsync=off") as url:
        yield url


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running server with tiny models. Its files and jobs are shared by all tests: give yours names of their own."""
    with ServerProcess(make_home(tmp_path_factory.mktemp("server"))) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> openai.OpenAI:
    """The SDK, refusing answers that do not have the documented shape."""
    return server.client()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a server that has not run yet, with tiny models."""
    return make_home(tmp_path)
