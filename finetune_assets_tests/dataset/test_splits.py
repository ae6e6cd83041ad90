import hashlib
from collections import Counter
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset import splits
from finetune_assets.task import SPLITS, Sampling

SHARES = Sampling(train=0.5, validation=0.1, calibration=0.1, test=0.2, seed=7)
COUNTS = Sampling(train=10, validation=2, calibration=3, test=5, seed=7)
labelled_groups = st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["Yes", "No", None])), max_size=80)
samplings = st.sampled_from([SHARES, COUNTS])


def position(seed: int, group: str) -> float:
    return float(splits.places(np.array([splits.key(seed, group)], np.uint64))[0])


def assign(groups: Sequence[str], sampling: Sampling, labels: Sequence[str | None]) -> list[str | None]:
    """`splits.assign` of named groups and labels."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    names = sorted({str(label) for label in labels})
    drawn = splits.assign(
        np.array([numbers[group] for group in groups], int),
        np.array([position(sampling.seed, group) for group in groups]),
        sampling,
        np.array([names.index(str(label)) for label in labels], int),
        names,
    )
    return [None if split == splits.NOT_SAMPLED else SPLITS[split] for split in drawn]


def split_by_group(rows: list[tuple[str, str | None]], sampling: Sampling) -> dict[str, str | None]:
    """Also asserts that a group is in one split only."""
    drawn = assign([group for group, _ in rows], sampling, [label for _, label in rows])
    found: dict[str, str | None] = {}
    for (group, _), split in zip(rows, drawn, strict=True):
        assert found.setdefault(group, split) == split
    return found


def test_position_is_the_first_53_bits_of_the_hash_as_a_fraction() -> None:
    bits = hashlib.blake2b(b"42\x00cell0001", digest_size=8).hexdigest()
    assert position(42, "cell0001") == int(f"{int(bits, 16):064b}"[:53], 2) / 2**53


def test_positions_are_uniform() -> None:
    places = [position(1, str(n)) for n in range(10_000)]
    for tenth in range(10):
        share = sum(tenth / 10 <= place < (tenth + 1) / 10 for place in places) / len(places)
        assert share == pytest.approx(0.1, abs=0.012)  # four standard deviations of a binomial share


@given(labelled_groups, samplings)
def test_a_group_is_in_one_split(rows: list[tuple[str, str | None]], sampling: Sampling) -> None:
    split_by_group(rows, sampling)


@given(labelled_groups, samplings, st.randoms())
def test_the_order_of_the_examples_makes_no_difference(
    rows: list[tuple[str, str | None]], sampling: Sampling, random: Random
) -> None:
    shuffled = random.sample(rows, len(rows))
    assert split_by_group(shuffled, sampling) == split_by_group(rows, sampling)


@given(labelled_groups, labelled_groups)
def test_with_shares_new_data_moves_no_old_example(
    old: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    before = split_by_group(old, SHARES)
    after = split_by_group(old + new, SHARES)
    assert {group: after[group] for group in before} == before


@given(labelled_groups, labelled_groups)
def test_with_counts_new_data_may_replace_an_example_but_never_changes_its_split(
    old: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    before = split_by_group(old, COUNTS)
    after = split_by_group(old + new, COUNTS)
    for group, split in before.items():
        assert split is None or after[group] in (split, None)


@given(labelled_groups)
def test_counts_are_never_exceeded(rows: list[tuple[str, str | None]]) -> None:
    drawn = Counter(assign([group for group, _ in rows], COUNTS, [label for _, label in rows]))
    assert all(drawn[split] <= count for split, count in COUNTS.amounts.items())


def test_counts_are_met_exactly_and_stratified_where_there_is_enough() -> None:
    labels = ["Yes" if n % 4 == 0 else "No" for n in range(4_000)]
    drawn = assign([str(n) for n in range(4_000)], Sampling(train=200, validation=20, calibration=40, test=80), labels)
    found = Counter(zip(drawn, labels, strict=True))
    assert {key: n for key, n in found.items() if key[0]} == {
        ("train", "Yes"): 50, ("train", "No"): 150, ("validation", "Yes"): 5, ("validation", "No"): 15,
        ("calibration", "Yes"): 10, ("calibration", "No"): 30, ("test", "Yes"): 20, ("test", "No"): 60,
    }  # fmt: skip


def test_counts_beyond_the_data_take_what_is_there() -> None:
    drawn = assign(list("abcdef"), Sampling(train=100, validation=100, calibration=100, test=100), ["Yes"] * 6)
    assert None not in drawn


def test_shares_come_out_near_themselves_and_leave_the_rest_unsampled() -> None:
    drawn = Counter(assign([str(n) for n in range(10_000)], SHARES, [None] * 10_000))
    for split, share in SHARES.amounts.items():
        assert drawn[split] / 10_000 == pytest.approx(share, abs=0.02)
    assert drawn[None] / 10_000 == pytest.approx(0.1, abs=0.02)


def test_another_seed_is_another_split() -> None:
    groups = [str(n) for n in range(100)]
    other = SHARES.model_copy(update={"seed": 8})
    assert assign(groups, SHARES, [None] * 100) != assign(groups, other, [None] * 100)


def test_what_is_published_is_used_so_and_what_lacks_is_cut_out_of_it() -> None:
    positions = np.linspace(0, 0.999, 1000)
    train, validation, calibration, test = range(4)
    published = np.array([train, test] * 500, np.int8)
    found = splits.as_published(published, positions, SHARES)
    assert set(found[published == test]) == {test}
    assert Counter(found[published == train].tolist()) == {train: 358, validation: 71, calibration: 71}
    found = splits.as_published(np.array([train, validation] * 500, np.int8), positions, SHARES)
    assert {validation, calibration} == set(found[1::2]) and set(found[::2]) == {train, test}


def test_what_was_drawn_stays_and_the_rest_of_a_count_is_filled_up() -> None:
    n = 200
    positions = np.array([position(7, str(k)) for k in range(n)])
    kept = np.zeros(n, bool)
    kept[[3, 4, 5]] = True
    owned = splits.owners(positions, COUNTS)
    owned[kept] = SPLITS.index("test")
    labels = np.zeros(n, int)
    drawn = splits.assign(np.arange(n), positions, COUNTS, labels, ["Yes"], owned, kept)
    assert set(drawn[kept]) == {SPLITS.index("test")}
    assert np.bincount(drawn[drawn >= 0]).tolist() == [10, 2, 3, 5]


@given(st.integers(0, 9), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_many_names_are_hashed_as_each_by_itself(seed: int, names: list[str]) -> None:
    assert splits.keys(seed, names).tolist() == [splits.key(seed, name) for name in names]


@given(labelled_groups, st.randoms())
def test_stratified_positions_are_one_for_a_group_and_the_same_in_any_order(
    rows: list[tuple[str, str | None]], random: Random
) -> None:
    def moved(some: list[tuple[str, str | None]]) -> dict[str, float]:
        numbers = {group: number for number, group in enumerate(dict.fromkeys(group for group, _ in some))}
        places = splits.stratified(
            np.array([position(7, group) for group, _ in some]),
            np.array([numbers[group] for group, _ in some], int),
            np.array([["Yes", "No", None].index(label) for _, label in some], int),
        )
        found: dict[str, float] = {}
        for (group, _), place in zip(some, places.tolist(), strict=True):
            assert 0 <= place < 1 and found.setdefault(group, place) == place
        return found

    assert moved(random.sample(rows, len(rows))) == pytest.approx(moved(rows))


@pytest.mark.parametrize("n", [7, 40, 333])
def test_stratified_shares_are_met_for_each_answer_to_an_example(n: int) -> None:
    positions = np.array([position(3, str(k)) for k in range(2 * n)])
    strata = (np.arange(2 * n) % 5 == 0).astype(int)
    owned = splits.owners(splits.stratified(positions, np.arange(2 * n), strata), SHARES)
    for stratum in (0, 1):
        inside = owned[strata == stratum]
        for split, share in enumerate(SHARES.amounts.values()):
            assert abs((inside == split).sum() - share * len(inside)) < 1 + 1e-9


def test_a_stratum_of_one_group_stays_where_it_was_so_that_single_newcomers_go_to_all_splits() -> None:
    places = [position(5, str(k)) for k in range(2_000)]
    alone = [splits.stratified(np.array([p]), np.zeros(1, int), np.zeros(1, int))[0] for p in places]
    assert alone == pytest.approx(places)


def test_large_groups_count_as_many_rows_as_they_have() -> None:
    groups = np.repeat(np.arange(300), np.arange(300) % 3 + 1)
    positions = np.array([position(1, str(group)) for group in groups])
    owned = splits.owners(splits.stratified(positions, groups, np.zeros(len(groups), int)), SHARES)
    for split, share in enumerate(SHARES.amounts.values()):
        assert abs((owned == split).sum() - share * len(groups)) <= 3, "no more than a group"
