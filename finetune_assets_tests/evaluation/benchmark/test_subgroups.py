"""The deciding metric by subgroup, and that many subgroups do not make a find."""

from collections.abc import Sequence

import numpy as np
import pytest

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.subgroups import by_subgroup
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.shares import accuracy_interval, paired_share_interval
from finetune_assets.evaluation.statistics import holm, mcnemar
from finetune_assets_tests.evaluation.predictions import prediction, predictions


def rows(subgroups: Sequence[str | None]) -> list[Prediction]:
    """One example in a group of its own for each entry."""
    return [prediction("Yes", "Yes", group=f"g{k}", subgroup=name) for k, name in enumerate(subgroups)]


def test_each_subgroup_has_the_figures_of_its_own_examples() -> None:
    rng = np.random.default_rng(1)
    base, tuned = rng.random((2, 90)) < [[0.5], [0.8]]
    names = np.array(["a", "b", "b"] * 30)
    large, small = by_subgroup(rows(names.tolist()), base.astype(float), tuned.astype(float))
    assert (large.name, large.n, small.name, small.n) == ("b", 60, "a", 30)
    assert large.base == accuracy_interval(base[names == "b"])
    assert large.difference == paired_share_interval(base[names == "b"], tuned[names == "b"], np.arange(60))
    raised = holm([mcnemar(base[names == name], tuned[names == name]) for name in "ab"])
    assert [small.p_value, large.p_value] == pytest.approx(raised.tolist())


def test_examples_without_a_subgroup_belong_to_none_and_one_of_all_is_none() -> None:
    right = np.ones(6)
    assert [(s.name, s.n) for s in by_subgroup(rows(["a", "a", None, None, "b", "b"]), right, right)] == [
        ("a", 2),
        ("b", 2),
    ]
    assert by_subgroup(rows(["a"] * 6), right, right) == ()
    assert by_subgroup(rows([None] * 6), right, right) == ()


def test_a_subgroup_of_one_group_has_no_interval_and_is_left_out() -> None:
    alone = [prediction("Yes", "Yes", group="patient", subgroup="rare") for _ in range(5)]
    found = by_subgroup([*alone, *rows(["usual"] * 5)], np.ones(10), np.ones(10))
    assert [subgroup.name for subgroup in found] == ["usual"]


def test_twenty_subgroups_of_equal_models_rarely_show_a_gain_anywhere() -> None:
    rng = np.random.default_rng(2)
    names = [f"s{k % 20:02d}" for k in range(600)]
    shown = [
        any(s.outcome != "inconclusive" for s in by_subgroup(rows(names), *(rng.random((2, 600)) < 0.6).astype(float)))
        for _ in range(20)
    ]
    assert sum(shown) <= 2


def test_a_benchmark_reports_them() -> None:
    frame = predictions()
    report = compare(frame.assign(subgroup=np.where(frame["example_id"] < "cell0040", "first", "rest")))
    assert [(subgroup.name, subgroup.n) for subgroup in report.subgroups] == [("rest", 80), ("first", 40)]
    assert report.to_dict()["subgroups"][0]["name"] == "rest"
