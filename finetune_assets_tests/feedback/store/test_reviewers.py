"""Reviewers sign in with a password that nobody can read or guess, and may do what their role says."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.reviewers import (
    SESSION_SECONDS,
    Reviewer,
    ReviewerError,
    add_reviewer,
    all_reviewers,
    close_session,
    is_password,
    open_session,
    remove_reviewer,
    signed_in,
)
from finetune_assets.feedback.store.schema import reviewers, sessions
from finetune_assets_tests.feedback.store.builders import NOON


def test_a_reviewer_signs_in_with_his_own_password(db: FeedbackDatabase) -> None:
    add_reviewer(db, "ann", "correct horse")
    add_reviewer(db, "bob", "battery staple", "admin")
    assert is_password(db, "ann", "correct horse")
    assert not is_password(db, "ann", "battery staple")
    assert not is_password(db, "cy", "correct horse")
    assert all_reviewers(db) == [Reviewer("ann", "reviewer"), Reviewer("bob", "admin")]


def test_a_new_password_ends_the_sessions_of_the_old_one(db: FeedbackDatabase) -> None:
    add_reviewer(db, "ann", "correct horse")
    token = open_session(db, "ann")
    add_reviewer(db, "ann", "battery staple", "adjudicator")
    assert (is_password(db, "ann", "correct horse"), is_password(db, "ann", "battery staple")) == (False, True)
    assert signed_in(db, token) is None
    assert all_reviewers(db) == [Reviewer("ann", "adjudicator")]


def test_passwords_and_tokens_cannot_be_read_from_the_database(db: FeedbackDatabase) -> None:
    for name in ("ann", "bob"):
        add_reviewer(db, name, "correct horse")
    token = open_session(db, "ann")
    with db.reading() as connection:
        kept = connection.scalars(select(reviewers.c.password)).all()
        assert connection.scalars(select(sessions.c.token)).all() != [token]
    assert len(set(kept)) == 2
    assert not any("horse" in password for password in kept)


@pytest.mark.parametrize(
    ("name", "password", "role"),
    [
        ("", "long enough", "admin"),
        (" ann", "long enough", "admin"),
        ("ann", "short", "admin"),
        ("ann", "long enough", "boss"),
    ],
)
def test_empty_names_short_passwords_and_unknown_roles_are_refused(
    db: FeedbackDatabase, name: str, password: str, role: str
) -> None:
    with pytest.raises(ReviewerError, match=r"must"):
        add_reviewer(db, name, password, role)  # pyright: ignore[reportArgumentType]


def test_a_session_ends_by_signing_out_by_time_and_by_being_removed(db: FeedbackDatabase) -> None:
    for name in ("ann", "bob"):
        add_reviewer(db, name, "correct horse")
    first, second, other = (open_session(db, name, NOON) for name in ("ann", "ann", "bob"))
    close_session(db, first)
    assert (signed_in(db, first, NOON), signed_in(db, second, NOON)) == (None, Reviewer("ann", "reviewer"))
    assert signed_in(db, other, NOON + SESSION_SECONDS) is None
    remove_reviewer(db, "ann")
    assert signed_in(db, second, NOON) is None
    with pytest.raises(ReviewerError, match="there is no reviewer ann"):
        remove_reviewer(db, "ann")


@pytest.mark.parametrize("token", ["", "no token", "\ud800", "\x00"])
def test_what_is_no_token_is_nobody_s(db: FeedbackDatabase, token: str) -> None:
    assert signed_in(db, token) is None
