"""What stops a region, what warns, and in which words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from upath import UPath

from finetune_assets.asking.spending import ArmCost
from finetune_assets.dataset.belonging.apart import Leak
from finetune_assets.dataset.label_errors import LabelErrors
from finetune_assets.dataset.table import write_table
from finetune_assets.pipeline.checks import data_checks
from finetune_assets.pipeline.checks.check import as_asked
from finetune_assets.task import SPLITS, Sampling, Split
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, NumberAnswer
from finetune_assets.training_file.target import OPENAI
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.pipeline.tasks import make_task

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def clean(train: int, validation: int = 2, calibration: int = 3, test: int = 3) -> pd.DataFrame:
    """Counts of so many examples in each split, the answers taking turns."""
    counts = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    rows = {split: {"Yes": (n + 1) // 2, "No": n // 2} for split, n in counts.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def alone(counts: pd.DataFrame) -> dict[Split, int]:
    """The groups of examples that all stand alone."""
    return {split: int(counts.loc[split].sum()) for split in SPLITS}


@pytest.mark.parametrize(
    ("frame", "passed"),
    [(clean(10), True), (clean(9), False), (clean(10, validation=0), False), (clean(10, test=2), False)],
)
def test_ten_training_examples_and_three_to_calibrate_and_test_with_are_enough(
    frame: pd.DataFrame, passed: bool
) -> None:
    assert data_checks.enough_examples("mono", frame, alone(frame)).passed is passed


def test_many_examples_of_two_groups_do_not_test_anything() -> None:
    frame = clean(100, test=60)
    result = data_checks.enough_examples("mono", frame, {**alone(frame), "test": 2})
    assert (
        not result.passed
        and "3 groups in calibration and in test are needed (there are 3 in calibration and 2 in t"
        in (result.description or "")
    )


def test_too_few_examples_are_counted() -> None:
    frame = clean(5, validation=0)
    assert data_checks.enough_examples("mono", frame, alone(frame)).description == (
        "Region mono has 5 for train, 0 for validation, 3 for calibration, 3 for test; at least 10 for train, 1 for "
        "validation and 3 groups in calibration and in test are needed (there are 3 in calibration and 3 in test); add "
        "labelled examples (in more groups: none is divided), or sample a larger share."
    )


def test_too_few_examples_are_explained_by_what_was_set_aside() -> None:
    set_aside = Counter({"label_doubtful": 7, "image_missing": 2})
    said = data_checks.enough_examples("mono", clean(5), alone(clean(5)), set_aside).description or ""
    assert said.endswith("or sample a larger share; 9 were set aside, most of them (7) as label_doubtful.")


def test_a_split_with_one_answer_is_named() -> None:
    result = data_checks.both_answers("mono", clean(10, calibration=1), ANSWER)
    assert (result.passed, result.description) == (
        False,
        "Region mono: calibration has no 'No'; label examples that have it, or look at `answer` in the YAML.",
    )


def test_validation_may_have_one_answer() -> None:
    assert data_checks.both_answers("mono", clean(10, validation=1), ANSWER).passed


def test_of_several_answers_each_must_train_and_two_be_tested() -> None:
    answer = ChoiceAnswer(kind="choice", options=["a", "b", "c"])
    counts = pd.DataFrame({"a": [5, 1, 1, 1], "b": [5, 0, 1, 1], "c": [5, 0, 0, 0]}, index=list(SPLITS))
    assert data_checks.both_answers("mono", counts, answer).passed
    counts.loc["train", "c"] = counts.loc["test", "b"] = 0
    said = data_checks.both_answers("mono", counts, answer).description
    assert (said or "").startswith(
        "Region mono: train has no 'c'; test has no 'b', no 'c'; label examples that have it"
    )


def test_numbers_and_texts_have_no_words_to_look_for() -> None:
    counts = pd.DataFrame({"examples": [5, 5, 5, 5]}, index=list(SPLITS))
    assert data_checks.both_answers("mono", counts, NumberAnswer(kind="number")).passed
    assert data_checks.enough_examples("mono", counts, alone(counts)).passed is False


def test_a_split_far_from_its_share_is_named() -> None:
    sampling = Sampling(train=0.4, validation=0.2, calibration=0.2, test=0.2)
    assert data_checks.split_sizes("mono", clean(400, 190, 215, 195), 1_000, sampling).passed
    said = data_checks.split_sizes("mono", clean(400, 20, 200, 380), 1_000, sampling).description or ""
    assert "validation has 20, not about 200; test has 380, not about 200" in said


def test_six_of_fifteen_are_too_few() -> None:
    sampling = Sampling(train=45, validation=15, calibration=15, test=15)
    said = data_checks.split_sizes("mono", clean(45, 6, 15, 15), 90, sampling).description or ""
    assert "validation has 6, not about 15" in said


def test_scarce_data_does_not_fill_the_counts() -> None:
    sampling = Sampling(train=100, validation=10, calibration=10, test=10)
    assert not data_checks.split_sizes("mono", clean(50, 10, 10, 10), 80, sampling).passed


def test_published_splits_have_the_sizes_that_they_were_published_with() -> None:
    sampling = Sampling(train=0.4, validation=0.2, calibration=0.2, test=0.2)
    found = data_checks.split_sizes("mono", clean(100, 5, 5, 5), 115, sampling, "used as published: 100 train, 15 test")
    assert found.passed and found.description == "Region mono: used as published: 100 train, 15 test."


def test_one_broken_image_in_twenty_is_the_most_that_passes(tmp_path: Path) -> None:
    problems = ["image_missing", *[None] * 19, "missing_field"]
    frame = pd.DataFrame({"image": ["a.png"] * 20 + [None], "problem": problems})
    assert data_checks.whole_images("mono", write_table(UPath(tmp_path) / "t.parquet", frame)).passed
    frame.loc[1, "problem"] = "image_animated"
    result = data_checks.whole_images("mono", write_table(UPath(tmp_path) / "t.parquet", frame))
    assert result.description == "Region mono: of 20 images 1 image_missing, 1 image_animated (10%)."
    frame.loc[20, "problem"] = "image_outside"
    result = data_checks.whole_images("mono", write_table(UPath(tmp_path) / "t.parquet", frame))
    assert "of 21 images 1 image_missing" in (result.description or ""), "one without an address is an image too"


def test_labels_that_look_wrong_are_counted_by_split() -> None:
    suspects = pd.DataFrame({"split": ["test", "train", "train"]})
    result = data_checks.likely_labels("mono", LabelErrors("the classifier is good", 0.9, suspects))
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "2 in train, 1 in test" in (result.description or "")
    assert data_checks.likely_labels("mono", LabelErrors("nothing", None, suspects.head(0))).passed
    assert data_checks.likely_labels("mono", None).passed


def test_a_file_above_512_mb_is_not_uploaded() -> None:
    assert data_checks.small_enough("mono", [100, 512 * 1024 * 1024], OPENAI).passed
    result = data_checks.small_enough("mono", [100, 512 * 1024 * 1024 + 1], OPENAI)
    assert not result.passed and "use fewer or smaller images" in (result.description or "")


def test_the_task_changes_severities_and_switches_checks_off() -> None:
    task = make_task(checks={"little_quarantine": "error", "no_leakage": "off", "enough_examples": "warn"})
    key, partitions = dg.AssetKey("filtered_qa"), dg.StaticPartitionsDefinition(["mono"])
    assert data_checks.LITTLE_QUARANTINE.spec(key, partitions, task).blocking
    assert not data_checks.ENOUGH_EXAMPLES.spec(key, partitions, task).blocking
    assert not data_checks.NO_LEAKAGE.asked(task)
    results = [
        data_checks.little_quarantine("mono", 90, 100),
        data_checks.no_leakage("mono", []),
        data_checks.enough_examples("mono", clean(1), alone(clean(1))),
        data_checks.both_answers("mono", clean(1), ANSWER),
    ]
    [asked] = as_asked(task, dg.MaterializeResult(check_results=results))
    severities = {result.check_name: result.severity for result in asked.check_results}
    assert severities == {
        "little_quarantine": dg.AssetCheckSeverity.ERROR,
        "enough_examples": dg.AssetCheckSeverity.WARN,
        "both_answers": dg.AssetCheckSeverity.ERROR,
    }


def test_the_first_leak_is_named() -> None:
    leak = Leak("image_sha256", "abc", ("test", "train"))
    result = data_checks.no_leakage("mono", [leak])
    assert not result.passed and "abc" in (result.description or "")
    assert data_checks.no_leakage("mono", []).passed


@pytest.mark.parametrize(("n_quarantined", "passed"), [(0, True), (25, True), (26, False)])
def test_a_quarter_in_quarantine_is_the_most_that_passes(n_quarantined: int, passed: bool) -> None:
    assert data_checks.little_quarantine("mono", n_quarantined, 100).passed is passed


def test_nothing_sampled_is_nothing_set_aside() -> None:
    assert data_checks.little_quarantine("mono", 0, 0).passed


def test_a_format_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n' * 12)
    result = data_checks.valid_format("mono", validate(path))
    assert not result.passed
    assert f"{path} line 1" in (result.description or "")


@pytest.mark.parametrize(
    ("cost", "budget", "passed", "severity"),
    [
        (4.99, 5.0, True, dg.AssetCheckSeverity.ERROR),
        (5.01, 5.0, False, dg.AssetCheckSeverity.ERROR),
        (0.0, 0.0, True, dg.AssetCheckSeverity.ERROR),
        (1000.0, None, True, dg.AssetCheckSeverity.ERROR),
        (None, 5.0, False, dg.AssetCheckSeverity.ERROR),
        (0.0, 0.0, True, dg.AssetCheckSeverity.ERROR),
        (0.01, 0.0, False, dg.AssetCheckSeverity.ERROR),
        (None, None, True, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_a_budget_is_kept(
    cost: float | None, budget: float | None, passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    result = data_checks.within_budget("mono", cost, budget)
    assert (result.passed, result.severity) == (passed, severity)


def test_the_arms_of_a_contest_count_into_the_budget() -> None:
    free, dear, unknown = ArmCost("base", 0.0), ArmCost("frontier", 0.6), ArmCost("other", None)
    assert data_checks.within_budget("mono", 4.3, 5.0, [free, dear]).passed
    over = data_checks.within_budget("mono", 4.5, 5.0, [free, dear])
    assert not over.passed and "4.50 USD and the arms of its contest 0.60 USD" in str(over.description)
    lost = data_checks.within_budget("mono", 0.0, 5.0, [unknown])
    assert not lost.passed and "nobody knows what the arm other costs" in str(lost.description)
    assert data_checks.within_budget("mono", 4.5, None, [unknown]).passed


def test_images_in_ranges_of_their_own_cannot_be_compared_and_the_remedy_is_named(tmp_path: Path) -> None:
    def judged(ranges: list[str | None], contrast: int = 200) -> dg.AssetCheckResult:
        frame = pd.DataFrame({"image_range": ranges, "image_contrast": [contrast] * len(ranges)})
        return data_checks.same_range(
            "mono", write_table(UPath(tmp_path) / "t.parquet", frame.astype({"image_range": "str"}))
        )

    assert judged([None, None]).passed and judged(["task", "task"]).passed
    own = judged(["image", "file", None])
    assert not own.passed and own.severity == dg.AssetCheckSeverity.WARN
    assert "of 2 images of more than 8 bits 1 are shown" in str(own.description)
    assert "`window: [low, high]` under `source`" in str(own.description)
    assert "2 of 2 images have fewer than 16 of 256 greys" in str(judged([None, None], contrast=5).description)


@pytest.mark.parametrize(
    ("n_test", "n_groups", "smallest", "said"),
    [
        (100, 100, None, None),
        (100, 5, None, "of fewer than 6 groups no gain can be proved"),
        (200, 200, 0.1, None),
        (50, 50, 0.1, "a gain of 10 points takes 77 to 240 independent test examples to show"),
    ],
)
def test_what_a_benchmark_needs_to_prove_anything_is_said_before_the_upload(
    n_test: int, n_groups: int, smallest: float | None, said: str | None
) -> None:
    result = data_checks.gain_can_be_shown("mono", n_test, n_groups, smallest)
    assert result.passed is (said is None)
    assert said is None or said in (result.description or "")
