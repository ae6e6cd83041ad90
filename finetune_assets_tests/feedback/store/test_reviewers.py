"""Reviewers sign in with a password that nobody can read or guess."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.reviewers import (
    FREE_FAILURES,
    ReviewerError,
    TooManySignInsError,
    add_reviewer,
    names,
    sign_in,
)
from finetune_assets.feedback.store.schema import reviewers
from finetune_assets_tests.feedback.store.builders import NOON


def test_a_reviewer_signs_in_with_his_own_password(db: FeedbackDatabase) -> None:
    add_reviewer(db, "ann", "correct horse")
    add_reviewer(db, "bob", "battery staple")
    assert sign_in(db, "ann", "correct horse")
    assert not sign_in(db, "ann", "battery staple")
    assert not sign_in(db, "cy", "correct horse")
    assert names(db) == ["ann", "bob"]


def test_a_password_can_be_set_anew(db: FeedbackDatabase) -> None:
    add_reviewer(db, "ann", "correct horse")
    add_reviewer(db, "ann", "battery staple")
    assert (sign_in(db, "ann", "correct horse"), sign_in(db, "ann", "battery staple")) == (False, True)


def test_equal_passwords_are_not_seen_to_be_equal_nor_read(db: FeedbackDatabase) -> None:
    for name in ("ann", "bob"):
        add_reviewer(db, name, "correct horse")
    with db.reading() as connection:
        kept = connection.scalars(select(reviewers.c.password)).all()
    assert len(set(kept)) == 2
    assert not any("horse" in password for password in kept)


@pytest.mark.parametrize(("name", "password"), [("", "long enough"), (" ann", "long enough"), ("ann", "short")])
def test_empty_names_and_short_passwords_are_refused(db: FeedbackDatabase, name: str, password: str) -> None:
    with pytest.raises(ReviewerError, match=r"must"):
        add_reviewer(db, name, password)


def test_who_guesses_has_to_wait_and_so_has_the_right_password(db: FeedbackDatabase) -> None:
    add_reviewer(db, "ann", "correct horse")
    for _ in range(FREE_FAILURES):
        assert not sign_in(db, "ann", "guess", NOON)
    with pytest.raises(TooManySignInsError, match="try again in 30 s"):
        sign_in(db, "ann", "correct horse", NOON)
    assert not sign_in(db, "ann", "guess", NOON + 30)
    with pytest.raises(TooManySignInsError, match="try again in 60 s"):
        sign_in(db, "ann", "correct horse", NOON + 30)
    assert sign_in(db, "ann", "correct horse", NOON + 90)
    assert not sign_in(db, "ann", "guess", NOON + 90), "and the count begins anew"
