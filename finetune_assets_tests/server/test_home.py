"""The server's folder: its key and its lock."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from finetune_assets.server.home import KEY_VARIABLE, HomeInUseError, api_key, locked


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    key = api_key(tmp_path)
    file = tmp_path / "api_key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() == key.value
    assert len(key.value) > 32
    assert api_key(tmp_path) == key
    assert str(file) in key.place


def test_the_environment_s_key_comes_first_and_is_not_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-mine")
    key = api_key(tmp_path)
    assert (key.value, list(tmp_path.iterdir())) == ("sk-mine", [])
    assert KEY_VARIABLE in key.place


def test_a_key_does_not_show_in_a_trace(tmp_path: Path) -> None:
    key = api_key(tmp_path)
    assert key.value not in repr(key)


def test_two_homes_have_two_keys(tmp_path: Path) -> None:
    assert api_key(tmp_path / "a").value != api_key(tmp_path / "b").value


def test_a_home_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(HomeInUseError, match="already runs on"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
