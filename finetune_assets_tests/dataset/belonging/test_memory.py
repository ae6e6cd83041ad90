"""Splits that stick: what was drawn keeps its split, and what belongs to it joins it."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.belonging.apart import leaks
from finetune_assets.dataset.belonging.memory import Memory
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.identity import group_name
from finetune_assets.dataset.sampling import Sample, sample
from finetune_assets.task import Sampling
from finetune_assets_tests.dataset.belonging.test_look_alikes import cell, encoded
from finetune_assets_tests.dataset.pictures import put

SHARES = Sampling(train=0.4, validation=0.2, calibration=0.2, test=0.2)
COUNTS = Sampling(train=20, validation=5, calibration=5, test=10)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Twelve cells, each as it is, half as large and as a JPEG: three files that look the same."""
    folder, paths = tmp_path_factory.mktemp("cells"), []
    for number in range(12):
        picture = cell(number, 64)
        copies = [encoded(picture), encoded(picture.resize((48, 48))), encoded(picture, "JPEG", quality=90)]
        paths += [str(put(folder / f"{number}-{copy}.png", data)) for copy, data in enumerate(copies)]
    return paths


def example(name: str, **fields: object) -> Example:
    known = {"id": name, "region": "r", "source": "t.csv", "question": f"Question {name}?", "answer": "Yes"}
    return Example(**known | fields)  # pyright: ignore[reportArgumentType]


def drawn(
    examples: Sequence[Example], sampling: Sampling = SHARES, memory: Memory | None = None
) -> tuple[Sample, pd.DataFrame]:
    """Draw the splits; the table has no leak."""
    with tempfile.TemporaryDirectory() as folder:
        found = sample(examples, sampling, UPath(folder) / "t.parquet", labels=["Yes"], memory=memory)
        assert leaks(found.table) == []
        return found, found.table.frame().set_index("example_id")


def assert_more_rows_move_no_old_one(
    first: list[Example], more: list[Example], sampling: Sampling, order: random.Random
) -> None:
    """Draw the first rows, then all of them shuffled, then all backwards; `drawn` looks for leaks each time."""
    before, table = drawn(first, sampling)
    both = [*first, *more]
    order.shuffle(both)
    after, grown = drawn(both, sampling, before.memory)
    was, is_now = table["split"].dropna(), grown["split"].dropna()
    assert is_now.reindex(was.index).to_dict() == was.to_dict()
    assert after.n_test_trained == 0
    # What came later is as fixed as what was first.
    again, third = drawn(both[::-1], sampling, after.memory)
    assert third["split"].dropna().reindex(is_now.index).to_dict() == is_now.to_dict()
    assert (again.n_test_trained, again.drawn_before) == (0, "")


rows = st.lists(
    st.tuples(
        st.sampled_from(["g1", "g2", "g3", "g4", None, None]),
        st.integers(0, 35) | st.none(),
        st.integers(0, 60),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=25, deadline=None)
@given(rows, rows, st.sampled_from([SHARES, COUNTS]), st.randoms(use_true_random=False))
def test_more_rows_in_any_order_move_no_old_one_and_nothing_leaks(
    pictures: list[str],
    old: list[tuple[str | None, int | None, int]],
    new: list[tuple[str | None, int | None, int]],
    sampling: Sampling,
    order: random.Random,
) -> None:
    def made(found: list[tuple[str | None, int | None, int]], prefix: str) -> list[Example]:
        return [
            example(
                f"{prefix}{number}",
                group=group,
                image=None if picture is None else pictures[picture],
                question=order.choice(["What is thing {}?", "what's thing {}", "Thing {}"]).format(text),
            )
            for number, (group, picture, text) in enumerate(found)
        ]

    first, more = made(old, "old"), made(new, "new")
    assert_more_rows_move_no_old_one(first, more, sampling, order)


DATA_SETS = int(os.environ.get("FINETUNE_ASSETS_TEST_DATA_SETS", "0"))
"""Large ones that are drawn besides; 200 take minutes."""
KEYS = ["P1", "p1 ", 2, 2.0, "02", "2e0", "3", "x", None, "", "n/a", float("nan")]
"""One patient under several spellings, and rows without any."""
QUESTIONS = ["What is thing {}?", "what's thing {}", "Thing {}"]


def rows_of(randoms: random.Random, pictures: list[str], prefix: str, n: int) -> list[Example]:
    """Rows of which some share a patient, some look alike, and some say the same."""
    return [
        example(
            f"{prefix}{number}",
            group=group_name(randoms.choice(KEYS)) or None if randoms.random() < 0.3 else None,
            image=randoms.choice(pictures) if randoms.random() < 0.4 else None,
            question=randoms.choice(QUESTIONS).format(randoms.randrange(400)),
        )
        for number in range(n)
    ]


@pytest.mark.skipif(not DATA_SETS, reason="FINETUNE_ASSETS_TEST_DATA_SETS says how many are drawn")
@settings(max_examples=DATA_SETS or 1, deadline=None)
@given(st.integers(1, 100), st.integers(1, 300), st.sampled_from([SHARES, COUNTS]), st.integers(0, 2**32))
def test_up_to_300_more_rows_move_no_old_one_and_nothing_leaks(
    pictures: list[str], n_old: int, n_new: int, sampling: Sampling, seed: int
) -> None:
    randoms = random.Random(seed)
    first, more = (rows_of(randoms, pictures, prefix, n) for prefix, n in (("old", n_old), ("new", n_new)))
    assert_more_rows_move_no_old_one(first, more, sampling, randoms)


def test_copies_join_the_split_of_what_they_copy_and_of_what_is_gone(pictures: list[str]) -> None:
    first = [example(str(number), image=pictures[3 * number]) for number in range(12)]
    before, table = drawn(first)
    copies = [example(f"copy {number}", image=pictures[3 * number + 1]) for number in range(12)]
    after, grown = drawn([*copies, *first], memory=before.memory)
    for number in range(12):
        now = {grown.loc[name, "split"] for name in (str(number), f"copy {number}")}
        assert now == {table.loc[str(number), "split"]}
    without, _ = drawn(copies, memory=after.memory)
    _, back = drawn(first, memory=without.memory)
    assert back["split"].to_dict() == table["split"].to_dict()


def test_what_belongs_to_two_splits_is_set_aside() -> None:
    before, table = drawn([example(str(number), group=f"g{number}") for number in range(20)])
    splits = table["split"].to_dict()
    train, test = (next(name for name, found in splits.items() if found == split) for split in ("train", "test"))
    questions = {name: f"Question {name}?" for name in (train, test)}
    bridge = example("new", group=f"g{train}", question=questions[test])
    alone = example("other", group=f"g{train}")
    first = [example(str(number), group=f"g{number}") for number in range(20)]
    _, grown = drawn([bridge, alone, *first], memory=before.memory)
    assert grown.loc["new", "problem"] == "splits_meet" and pd.isna(grown.loc["new", "split"])
    assert grown.loc["other", "split"] == "train"


def test_a_look_alike_is_found_where_the_first_row_of_its_image_is_set_aside(pictures: list[str]) -> None:
    first = [example(f"old {n}", image=pictures[3 * n]) for n in range(12)]
    first += [example(str(n), group=f"g{n}") for n in range(30)]
    before, table = drawn(first)
    split = table["split"].to_dict()
    bridges, copies = [], []
    for n in range(12):
        elsewhere = next(m for m in range(30) if split[str(m)] != split[f"old {n}"])
        # It has the old one's image and another's group: it is in no split, but stands first for what looks alike.
        bridges.append(example(f"bridge {n}", group=f"g{elsewhere}", image=pictures[3 * n]))
        copies.append(example(f"copy {n}", image=pictures[3 * n + 1]))
    _, grown = drawn([*bridges, *copies, *first], memory=before.memory)
    now = grown["split"].to_dict()
    assert {grown.loc[f"bridge {n}", "problem"] for n in range(12)} == {"splits_meet"}
    assert [now[f"copy {n}"] for n in range(12)] == [split[f"old {n}"] for n in range(12)]


def test_another_seed_draws_anew_and_counts_the_test_that_has_trained() -> None:
    examples = [example(str(number)) for number in range(200)]
    before, table = drawn(examples)
    other = SHARES.model_copy(update={"seed": 43})
    after, anew = drawn(examples, other, before.memory)
    trained = table["split"].isin(["train", "validation"])
    assert after.n_test_trained == (trained & (anew["split"] == "test")).sum() > 0
    assert after.drawn_before == "train 0.4, validation 0.2, calibration 0.2, test 0.2, seed 42"
    back, again = drawn(examples, SHARES, before.memory)
    assert (back.n_test_trained, again["split"].to_dict()) == (0, table["split"].to_dict())


def test_a_replaced_image_keeps_the_split_of_its_id(pictures: list[str]) -> None:
    first = [example(str(number), image=pictures[3 * number]) for number in range(12)]
    before, table = drawn(first)
    saved_again = [replace(one, image=pictures[3 * number + 2]) for number, one in enumerate(first)]
    _, after = drawn(saved_again, memory=before.memory)
    assert after["split"].to_dict() == table["split"].to_dict()


def test_published_splits_are_used_as_published_and_lacking_ones_cut_out_and_said() -> None:
    examples = [example(str(number), published="test" if number % 4 == 0 else "train") for number in range(200)]
    found, table = drawn(examples)
    assert set(table["split"].iloc[::4]) == {"test"}
    assert set(table.drop(table.index[::4])["split"]) == {"train", "validation", "calibration"}
    said = "150 train, 50 test; validation is cut out of train, calibration is cut out of train"
    assert found.published == f"used as published: {said}"
    _, grown = drawn([example("new", published="train"), *examples], memory=found.memory)
    assert grown["split"].reindex(table.index).to_dict() == table["split"].to_dict()


def test_a_group_in_two_published_splits_is_a_leak_that_is_named(tmp_path: Path) -> None:
    examples = [example("a", group="p1", published="train"), example("b", group="p1", published="test")]
    found = sample(examples, SHARES, UPath(tmp_path) / "t.parquet")
    assert [(leak.kind, leak.value, len(leak.splits)) for leak in leaks(found.table)] == [("group", "p1", 2)]


def test_what_is_remembered_is_read_as_it_was_written(tmp_path: Path) -> None:
    before, table = drawn([example(str(number)) for number in range(50)])
    before.memory.write(UPath(tmp_path) / "m.parquet")
    memory = Memory.read(UPath(tmp_path) / "m.parquet")
    found, again = drawn([example(str(number)) for number in range(50)], memory=memory)
    assert (again["split"].to_dict(), found.drawn_before) == (table["split"].to_dict(), "")
    assert Memory.read(UPath(tmp_path) / "none.parquet").draw == ""
