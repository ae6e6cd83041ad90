"""What several servers and workers are told of each other by the environment."""

from __future__ import annotations

import pytest

from finetune_assets.server.shared import LEASE, LeaseError, Shared


@pytest.mark.parametrize("said", ["0", "-5", "inf", "nan", "ten", "²", "٣", "1e3", "9" * 400, "3601", "1."])
def test_a_lease_is_a_number_of_seconds_that_ends(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEASE, said)
    with pytest.raises(LeaseError, match="must be a number of seconds from 1 to 3600"):
        Shared.from_environment()


def test_what_is_handed_on_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared("postgresql+psycopg://host/name", "s3://bucket/prefix", 2.5)
    for name, value in shared.environment().items():
        monkeypatch.setenv(name, value)
    assert Shared.from_environment() == shared
    assert "host" not in repr(shared)
