from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sampling import DTYPES, merged_groups, sample
from finetune_assets.dataset.splits import leaks
from finetune_assets.task import Sampling
from finetune_assets_tests.dataset.pictures import picture, put

ALL = Sampling(train=0.4, validation=0.2, calibration=0.2, test=0.2)


def example(name: str, **fields: object) -> Example:
    known = {"id": name, "region": "mono", "source": "labels.csv", "question": "Defective?", "answer": "Yes"}
    return Example(**known | fields)  # pyright: ignore[reportArgumentType]


def sampled(examples: Sequence[Example], sampling: Sampling = ALL) -> pd.DataFrame:
    return sample(examples, sampling).frame


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
    assert frame["problem"].tolist() == ["image_missing", "image_unreadable"]
    assert frame["split"].isna().tolist() == [True, True]
    assert frame["image_bytes"].tolist() == [pd.NA, 40]


def test_problem_rows_of_the_source_are_always_in_the_frame() -> None:
    examples = [example(str(n), problem="malformed_line", detail=f"line {n}", answer=None) for n in range(50)]
    result = sample(examples, Sampling(train=0.01, validation=0.01, calibration=0.01, test=0.01))
    assert (len(result.frame), result.n_source) == (50, 50)
    assert result.frame["detail"].tolist() == [f"line {n}" for n in range(50)]


def test_examples_in_no_split_are_left_out_and_counted() -> None:
    tenth = Sampling(train=0.04, validation=0.02, calibration=0.02, test=0.02)
    result = sample((example(str(n)) for n in range(1_000)), tenth)
    assert result.n_source == 1_000
    assert 60 <= len(result.frame) <= 140
    assert set(result.frame["split"]) == {"train", "validation", "calibration", "test"}


def test_identical_images_share_a_group_even_against_the_source(tmp_path: Path) -> None:
    data = picture()
    first, second = put(tmp_path / "1.png", data), put(tmp_path / "2.png", data)
    frame = sampled([example("a", image=str(first), group="p1"), example("b", image=str(second), group="p2")])
    assert frame["group"].tolist() == ["p1", "p1"]
    assert leaks(frame) == []


def test_without_image_and_group_an_example_stands_alone() -> None:
    assert sampled([example("a"), example("b")])["group"].tolist() == ["a", "b"]


def test_an_empty_region_has_the_columns_of_a_full_one() -> None:
    frame = sampled([])
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == DTYPES
    assert len(frame) == 0


def test_the_frame_survives_parquet(tmp_path: Path) -> None:
    frame = sampled([example("a", score=0.5), example("b", problem="missing_field", answer=None)])
    frame.to_parquet(tmp_path / "frame.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), frame)


@given(st.lists(st.tuples(st.sampled_from("abc") | st.none(), st.sampled_from("xyz") | st.none()), max_size=12))
def test_merged_groups_are_the_connected_components_of_shared_images_and_groups(pairs: list[tuple[str, str]]) -> None:
    rows = [example(f"id{n}", group=group) for n, (group, _) in enumerate(pairs)]
    found = merged_groups(rows, [sha256 for _, sha256 in pairs])

    # The independent way: join any two rows that share something, until nothing changes.
    component = list(range(len(pairs)))
    for _ in pairs:
        for i, (group, sha256) in enumerate(pairs):
            for j, (other_group, other_sha256) in enumerate(pairs):
                if (group and group == other_group) or (sha256 and sha256 == other_sha256):
                    component[i] = component[j] = min(component[i], component[j])
    for i in range(len(pairs)):
        for j in range(len(pairs)):
            assert (found[i] == found[j]) == (component[i] == component[j])
