"""What is kept beside the events is what follows from them, after whatever reviewers and the pipeline did.

The model here works it out anew from the list of all that happened, in its own way: it crosses out what was undone,
and then asks each reviewer what he said last.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import decisions, newest_event, regions_with_feedback
from finetune_assets.feedback.store.events import Kind, latest
from finetune_assets.feedback.store.queues import take
from finetune_assets_tests.feedback.store.builders import TASK, does, item, offer_items
from finetune_assets_tests.feedback.store.derived_rows import assert_rebuilt_equal

NAMES, REVIEWERS, CONTENTS = ("a", "b"), ("ann", "bob", "cy"), ("one", "two")
ACTS = st.one_of(
    st.tuples(
        st.just("judge"), st.sampled_from(NAMES), st.sampled_from(REVIEWERS), st.sampled_from(("Yes", "No", None))
    ),
    st.tuples(st.just("adjudicate"), st.sampled_from(NAMES), st.just("jo"), st.sampled_from(("Yes", None))),
    st.tuples(st.just("skip"), st.sampled_from(NAMES), st.sampled_from(REVIEWERS), st.none()),
    st.tuples(st.just("undo"), st.sampled_from(NAMES), st.sampled_from(REVIEWERS), st.none()),
    st.tuples(st.just("change"), st.sampled_from(NAMES), st.none(), st.sampled_from(CONTENTS)),
)
Act = tuple[str, str, str | None, str | None]


@dataclass
class Model:
    """All that happened and was not undone: reviewer, what he did, his answer, the example and its content."""

    said: list[tuple[str, str, str | None, str, str]] = field(default_factory=list)
    content: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NAMES, "one"))

    def decision(self, name: str) -> tuple[str, str | None] | None:
        """Content and answer that are decided, or None."""
        words = [w for w in self.said if w[3] == name and w[1] != "skip"]
        present = [w for w in words if w[4] == self.content[name]]
        if words and not present:
            present = [w for w in words if w[4] == words[-1][4]]
        if not present:
            return None
        if ended := [word for word in present if word[1] == "adjudicate"]:
            return ended[-1][4], ended[-1][2]
        last = {who: answer for who, act, answer, _, _ in present if act == "judge"}
        ((answer, votes),) = Counter(last.values()).most_common(1)
        return (present[-1][4], answer) if votes > len(last) / 2 else None

    def open_to(self, reviewer: str) -> set[str]:
        """Examples that the reviewer has not judged as they are now."""
        mine = {(name, content) for who, act, _, name, content in self.said if (who, act) == (reviewer, "judge")}
        return {name for name in NAMES if (name, self.content[name]) not in mine}


def do(db: FeedbackDatabase, model: Model, region: str, act: Act) -> None:
    """Do it in the database and in the model."""
    what, name, who, value = act
    if what == "change":
        model.content[name] = value or ""
        offer_items(db, *[item(n, region=region, content=c, doubt="doubted") for n, c in model.content.items()])
    elif what == "undo":
        last = latest(db, who or "", TASK, region)
        mine = [k for k, word in enumerate(model.said) if word[0] == who]
        assert (last is None) == (mine == [])
        if last is not None:
            word = model.said.pop(mine[-1])
            assert (last.example_id, last.answer, last.content) == (word[3], word[2], word[4])
            does(db, last.reviewer, "undo", last.example_id, undoes=last.number, region=region)
    else:
        kinds: dict[str, Kind] = {"judge": "correct" if value else "reject", "adjudicate": "adjudicate", "skip": "skip"}
        does(db, who or "", kinds[what], name, value, region=region)
        model.said.append((who or "", what, value, name, model.content[name]))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTS, max_size=25))
def test_decisions_and_queues_follow_from_the_events(db: FeedbackDatabase, acts: list[Act]) -> None:
    model, region = Model(), uuid.uuid4().hex
    offer_items(db, *[item(name, region=region, content="one", doubt="doubted") for name in NAMES])
    for act in acts:
        do(db, model, region, act)
    found = decisions(db, TASK, region)
    expected = {name: model.decision(name) for name in NAMES}
    assert {d.example_id: (d.content, d.answer) for d in found} == {k: v for k, v in expected.items() if v is not None}
    for reviewer in REVIEWERS:
        taken = take(db, TASK, region, "doubtful", reviewer, n=9, now=0.0)
        decided = {name for name, about in expected.items() if about and about[0] == model.content[name]}
        assert {t.item.example_id for t in taken} == model.open_to(reviewer) - decided
        does(db, reviewer, "comment", "a", comment="only to be seen as the newest event", region=region)
        for each in taken:
            does(db, reviewer, "skip", each.item.example_id, region=region)
    feedback = regions_with_feedback(db, TASK)[region]
    assert (feedback.n_decisions, feedback.newest_event) == (len(found), newest_event(db, TASK, region))


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTS, min_size=10, max_size=40))
def test_all_can_be_made_anew_from_the_events(db: FeedbackDatabase, acts: list[Act]) -> None:
    model, region = Model(), uuid.uuid4().hex
    offer_items(db, *[item(name, region=region, content="one", doubt="doubted") for name in NAMES])
    for act in acts:
        do(db, model, region, act)
    assert_rebuilt_equal(db)
