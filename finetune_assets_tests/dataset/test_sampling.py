import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.belonging.apart import leaks
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sampling import DTYPES, Sample, sample
from finetune_assets.dataset.table import write_table
from finetune_assets.task import Sampling
from finetune_assets_tests.dataset.belonging.test_look_alikes import encoded, letters
from finetune_assets_tests.dataset.pictures import picture, put

ALL = Sampling(train=0.4, validation=0.2, calibration=0.2, test=0.2)


def example(name: str, **fields: object) -> Example:
    known = {"id": name, "region": "mono", "source": "labels.csv", "question": "Defective?", "answer": "Yes"}
    return Example(**known | fields)  # pyright: ignore[reportArgumentType]


def sample_of(examples: Iterable[Example], sampling: Sampling = ALL, near: bool = False) -> tuple[Sample, pd.DataFrame]:
    """The sample, and its table read before it is gone."""
    with tempfile.TemporaryDirectory() as folder:
        result = sample(examples, sampling, UPath(folder) / "s.parquet", labels=["Yes", "No"], near=near)
        assert [path.name for path in Path(folder).iterdir()] == ["s.parquet"]
        return result, result.table.frame()


def sampled(examples: Sequence[Example], sampling: Sampling = ALL) -> pd.DataFrame:
    return sample_of(examples, sampling)[1]


def test_a_row_holds_the_example_and_the_facts_of_its_image(tmp_path: Path) -> None:
    data = picture("PNG", "L", (12, 8))
    path = put(tmp_path / "a.png", data)
    [row] = sampled([example("a", image=str(path), score=1.0, line=4)]).to_dict("records")
    assert row["split"] in ("train", "validation", "calibration", "test")
    assert row["group"] == row["image_sha256"]
    facts = (row["image_bytes"], row["image_width"], row["image_height"], row["image_mode"])
    assert facts == (len(data), 12, 8, "L")
    assert (row["example_id"], row["answer"], row["score"], row["line"]) == ("a", "Yes", 1.0, 4)
    assert pd.isna(row["problem"])


def test_missing_and_damaged_images_are_carried_along_without_a_split(tmp_path: Path) -> None:
    broken = put(tmp_path / "broken.png", picture()[:40])
    frame = sampled([example("a", image=str(tmp_path / "none.png")), example("b", image=str(broken))])
    assert frame["problem"].tolist() == ["image_missing", "image_truncated"]
    assert frame["split"].isna().tolist() == [True, True]
    assert frame["image_bytes"].tolist() == [pd.NA, 40]


def test_problem_rows_of_the_source_are_always_in_the_frame() -> None:
    examples = [example(str(n), problem="malformed_line", detail=f"line {n}", answer=None) for n in range(50)]
    result, frame = sample_of(examples, Sampling(train=0.01, validation=0.01, calibration=0.01, test=0.01))
    assert (len(frame), result.n_source, result.n_usable) == (50, 50, 0)
    assert frame["detail"].tolist() == [f"line {n}" for n in range(50)]


def test_examples_in_no_split_are_left_out_and_counted() -> None:
    tenth = Sampling(train=0.04, validation=0.02, calibration=0.02, test=0.02)
    result, frame = sample_of((example(str(n)) for n in range(1_000)), tenth)
    assert result.n_source == 1_000
    assert 60 <= len(frame) <= 140
    assert set(frame["split"]) == {"train", "validation", "calibration", "test"}


def test_identical_images_share_a_group_even_against_the_source(tmp_path: Path) -> None:
    data = picture()
    first, second = put(tmp_path / "1.png", data), put(tmp_path / "2.png", data)
    frame = sampled([example("a", image=str(first), group="p1"), example("b", image=str(second), group="p2")])
    assert frame["group"].tolist() == ["p1", "p1"]
    assert leaks(write_table(UPath(tmp_path) / "s.parquet", frame)) == []


def test_the_largest_group_is_called_by_a_file_where_it_has_no_other_name(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"frame-{number}.png", picture(shade=9)) for number in range(3)]
    frames = [example(path.stem, image=str(path)) for path in paths]
    assert sample_of(frames)[0].largest_group == ("frame-0.png", 3)
    named = [example(path.stem, image=str(path), group="scene 4") for path in paths]
    assert sample_of(named)[0].largest_group == ("scene 4", 3)


def test_without_image_and_group_an_example_stands_alone() -> None:
    assert sampled([example("a"), example("b")])["group"].tolist() == ["a", "b"]


def test_an_empty_region_has_the_columns_of_a_full_one() -> None:
    frame = sampled([])
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == DTYPES
    assert len(frame) == 0


def test_images_that_look_the_same_share_a_group_where_that_is_asked_for(tmp_path: Path) -> None:
    one, other, third = letters(0), letters(0).resize((256, 256)), letters(1)
    paths = [put(tmp_path / f"{n}.png", encoded(picture)) for n, picture in enumerate([one, other, third])]
    examples = [example(str(n), image=str(path)) for n, path in enumerate(paths)]
    result, frame = sample_of(examples, near=True)
    one_group, same_group, other_group = frame["group"].tolist()
    assert one_group == same_group == min(frame["image_sha256"].tolist()[:2]) != other_group
    assert result.n_near_duplicates == 1
    assert len(set(sampled(examples)["group"])) == 3


def test_a_repeated_id_is_numbered_and_stays_in_one_group() -> None:
    frame = sampled([example("a"), example("b"), example("a"), example("a")])
    assert frame["example_id"].tolist() == ["a", "b", "a#2", "a#3"]
    assert frame["group"].tolist() == ["a", "b", "a", "a"]


def test_an_interrupted_source_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Example]:
        yield example("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(broken(), ALL, UPath(tmp_path) / "s.parquet")
    assert list(tmp_path.iterdir()) == []


rows = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from("pqr") | st.none(),
        st.sampled_from(["Yes", "No", None]),
        st.sampled_from([None, None, None, "missing_field"]),
    ),
    max_size=60,
)


@settings(max_examples=20)
@given(rows, st.sampled_from([ALL, Sampling(train=8, validation=2, calibration=3, test=4)]))
def test_every_usable_row_is_sampled_at_most_once_and_groups_stay_whole(
    rows: list[tuple[int, str | None, str | None, str | None]], sampling: Sampling
) -> None:
    examples = [
        example(str(number), group=group, answer=answer, problem=problem) for number, group, answer, problem in rows
    ]
    result, frame = sample_of(examples, sampling)
    assert result.n_source == len(rows)
    assert len(set(frame["example_id"])) == len(frame)
    assert len(frame["problem"].dropna()) == sum(problem is not None for *_, problem in rows)
    assert frame["problem"].isna().tolist() == frame["split"].notna().tolist()
    in_a_split = frame.dropna(subset="split")
    assert len(set(in_a_split["group"])) == len(set(zip(in_a_split["group"], in_a_split["split"], strict=True)))
    if sampling.by_count:
        drawn = Counter(frame["split"].dropna())
        assert all(drawn[split] <= count for split, count in sampling.amounts.items())


@pytest.mark.parametrize("seed", range(4))
def test_stratified_splits_hold_the_same_share_of_each_answer_and_stick_as_data_grows(seed: int) -> None:
    sampling = Sampling(train=0.5, validation=0.1, calibration=0.2, test=0.2, seed=seed, stratify=True)
    examples = [example(f"e{k}", answer="Yes" if k % 5 == 0 else "No", group=f"g{k // 2}") for k in range(400)]
    found: dict[str, str] = {}
    memory = None
    for n in (100, 101, 102, 250, 400):
        with tempfile.TemporaryDirectory() as folder:
            path = UPath(folder) / "sampled.parquet"
            made = sample(examples[:n], sampling, path, labels=("Yes", "No"), near=False, memory=memory)
            rows, memory = made.table.frame(), made.memory
        now = dict(zip(rows["example_id"], rows["split"], strict=True))
        assert found.items() <= now.items(), "what was drawn before never moves"
        found = now
        assert len(set(zip(rows["group"], rows["split"], strict=True))) == rows["group"].nunique()
    counts = Counter(zip(rows["answer"], rows["split"], strict=True))
    for answer, total in (("Yes", 80), ("No", 320)):
        for split, share in sampling.amounts.items():
            assert abs(counts[answer, split] - share * total) <= 6, (answer, split, counts)
