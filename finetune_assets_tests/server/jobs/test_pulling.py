"""A worker that was started for one job ends where the job needs no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_assets.server.database.jobs import VALIDATING
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs.pulling import SoleJob
from finetune_assets_tests.server.database.test_job_life import make_job


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(tmp_path / "home")
    yield opened
    opened.close()


def test_it_stays_for_a_job_that_waits_and_while_it_works_on_it(stores: Stores) -> None:
    job = make_job(stores).id
    sole = SoleJob(stores.jobs, job)
    assert not sole.needs_nobody(at_work=False)
    claim = stores.jobs.claim(job, VALIDATING, "we", 100.0)
    assert claim is not None
    for seconds in (100.0, 200.0):
        assert stores.jobs.renew(job, claim, seconds)
        assert not sole.needs_nobody(at_work=True)


def test_it_ends_once_another_worker_has_the_job_and_is_alive(stores: Stores) -> None:
    job = make_job(stores).id
    sole = SoleJob(stores.jobs, job)
    claim = stores.jobs.claim(job, VALIDATING, "somebody else", 100.0)
    assert claim is not None
    assert not sole.needs_nobody(at_work=False), "that one may be dead"
    assert not sole.needs_nobody(at_work=False)
    assert stores.jobs.renew(job, claim, 200.0)
    assert sole.needs_nobody(at_work=False)


def test_it_waits_for_the_job_of_a_dead_worker_to_come_back(stores: Stores) -> None:
    job = make_job(stores).id
    sole = SoleJob(stores.jobs, job)
    claim = stores.jobs.claim(job, VALIDATING, "a dead one", 100.0)
    assert claim is not None
    assert not sole.needs_nobody(at_work=False)
    stores.jobs.release(job, claim)
    assert not sole.needs_nobody(at_work=False)
    assert stores.jobs.claim(job, VALIDATING, "we", 100.0) == claim + 1
    assert not sole.needs_nobody(at_work=True)


def test_it_ends_where_there_is_no_such_job_any_more(stores: Stores) -> None:
    assert SoleJob(stores.jobs, "ftjob-gone").needs_nobody(at_work=False)
