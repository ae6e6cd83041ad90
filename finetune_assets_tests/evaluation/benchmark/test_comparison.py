"""The comparison of two models, from the table of predictions to the report."""

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.sample_size import needed_examples
from finetune_assets.evaluation.shares import accuracy_interval, paired_share_interval
from finetune_assets.evaluation.statistics import mcnemar, paired_permutation
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer
from finetune_assets.task.costs import Prices, TokenPrices
from finetune_assets_tests.evaluation import experiments
from finetune_assets_tests.evaluation.predictions import choices, numbers, predictions, role, texts


def correct(frame: pd.DataFrame, role: str) -> np.ndarray:
    rows = frame[frame["role"] == role]
    return (rows["truth"] == rows["predicted"]).to_numpy()


def changed(frame: pd.DataFrame, row: int, **columns: Any) -> pd.DataFrame:
    """The frame with some cells of one row replaced."""
    frame = frame.astype(dict.fromkeys(columns, object))
    for column, value in columns.items():
        frame.at[row, column] = value
    return frame


def test_difference_interval_and_p_are_those_of_the_paired_answers() -> None:
    frame = predictions()
    report = compare(frame)
    base, tuned = correct(frame, "base"), correct(frame, "fine_tuned")
    expected, difference = paired_share_interval(base, tuned, np.arange(120)), report.decisive.difference
    assert difference.estimate == pytest.approx(tuned.mean() - base.mean())
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert report.p_value == mcnemar(base, tuned)
    assert report.comparisons["accuracy"].base == accuracy_interval(base)
    assert (report.n_fixed, report.n_broken) == (np.sum(tuned & ~base), np.sum(base & ~tuned))


def test_each_model_has_the_metrics_of_its_own_answers() -> None:
    frame = predictions()
    report = compare(frame)
    rows = frame[frame["role"] == "fine_tuned"]
    truth, given = rows["truth"] == "Yes", rows["predicted"] == "Yes"
    assert report.fine_tuned.metrics["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, given))
    assert report.fine_tuned.metrics["f1"] == pytest.approx(sklearn.metrics.f1_score(truth, given))
    assert report.fine_tuned.metrics["roc_auc"] == pytest.approx(
        sklearn.metrics.roc_auc_score(truth, rows["p_positive"])
    )
    assert report.fine_tuned.model == "fine_tuned-model"
    assert report.fine_tuned.median_latency_s == pytest.approx(np.median(rows["latency_s"].tolist()))
    for name, row in report.comparisons.items():
        assert row.fine_tuned.estimate == pytest.approx(report.fine_tuned.metrics[name])
        assert row.fine_tuned.low <= row.fine_tuned.estimate <= row.fine_tuned.high


@pytest.mark.parametrize(
    ("base", "fine_tuned", "outcome", "words"),
    [
        (0.55, 0.9, "better", "The fine-tuned model is better: +"),
        (0.9, 0.55, "worse", "The fine-tuned model is worse: -"),
        (0.7, 0.7, "inconclusive", "No significant gain or loss"),
    ],
)
def test_the_verdict_follows_the_numbers(base: float, fine_tuned: float, outcome: str, words: str) -> None:
    report = compare(predictions(base=base, fine_tuned=fine_tuned))
    assert report.outcome == outcome
    assert report.verdict.startswith(words)


def test_a_gain_over_a_poor_base_model_is_held_against_the_most_frequent_answer() -> None:
    frame = predictions(base=0.2, fine_tuned=0.55)
    report = compare(frame)
    shares = frame["truth"].value_counts(normalize=True)
    assert report.outcome == "better"
    [trivial] = report.baselines
    assert (trivial.name, trivial.metrics["accuracy"]) == ("always “No”", pytest.approx(shares["No"]))
    assert trivial.metrics["balanced_accuracy"] == 0.5
    assert report.over_baseline.estimate == pytest.approx(report.decisive.fine_tuned.estimate - shares["No"])
    assert report.over_baseline.low < 0
    assert "The fine-tuned model is not shown to beat a trivial one (always “No”), which is right in" in report.verdict


@pytest.mark.parametrize(("fine_tuned", "words"), [(0.95, "beats"), (0.2, "is worse than")])
def test_the_verdict_compares_with_the_trivial_model_too(fine_tuned: float, words: str) -> None:
    assert (
        f"The fine-tuned model {words} a trivial one" in compare(predictions(base=0.1, fine_tuned=fine_tuned)).verdict
    )


def test_only_the_test_split_is_judged() -> None:
    frame = predictions()
    other = predictions(base=0.9, fine_tuned=0.1, seed=9).assign(split="calibration")
    other["example_id"] = "other" + other["example_id"]
    assert compare(pd.concat([frame, other])) == compare(frame)


@pytest.mark.parametrize("population", [experiments.binary(0.2, 0.9), experiments.numbers(0.4, 0.25)])
def test_what_the_simulations_draw_is_a_benchmark(population: experiments.Population) -> None:
    drawn = population.draw(np.random.default_rng(0), 20, 2)
    assert compare(drawn, population.answer).n == 40


def test_row_order_and_parquet_change_nothing() -> None:
    frame = changed(predictions(), 150, predicted=None, p_positive=None).astype({"p_positive": float})
    stored = io.BytesIO()
    frame.sample(frac=1, random_state=1).to_parquet(stored)
    assert compare(pd.read_parquet(stored)) == compare(frame)


def test_an_unparseable_answer_is_wrong() -> None:
    frame = predictions(fine_tuned=1.0)
    report = compare(changed(frame, 125, predicted=None, text="The cell"))
    assert report.fine_tuned.n_unparseable == 1
    assert report.decisive.fine_tuned.estimate == pytest.approx(119 / 120)
    assert [(example.example_id, example.text, example.predicted) for example in report.worst] == [
        ("cell0005", "The cell", None)
    ]


def test_a_failed_request_is_a_wrong_answer_and_the_others_are_compared_beside_it() -> None:
    frame = predictions(fine_tuned=1.0)
    report = compare(changed(frame, 125, error="refused", predicted=None, p_positive=None))
    assert (report.n, report.n_unanswered) == (120, 1)
    assert (report.fine_tuned.n_failed, report.fine_tuned.n_unparseable) == (1, 0)
    assert report.decisive.fine_tuned.estimate == pytest.approx(119 / 120)
    complete = report.complete_cases
    assert complete is not None and complete.n == 119
    assert complete.difference == compare(frame.drop(index=[5, 125])).decisive.difference
    assert "1 of 120 requests of the fine-tuned model and 0 of the base model failed; they count as wrong." in (
        report.verdict
    )
    assert report.worst[0].error == "refused"


def test_a_model_that_refuses_its_mistakes_is_no_better_for_it() -> None:
    frame = predictions(fine_tuned=0.7)
    mistakes = (frame["role"] == "fine_tuned") & (frame["predicted"] != frame["truth"])
    refusing = frame.assign(error=["HTTP 400" if one else None for one in mistakes])
    refusing.loc[mistakes, "predicted"] = None
    before, after = compare(frame).decisive, compare(refusing).decisive
    assert after.fine_tuned == before.fine_tuned and after.difference == before.difference


@pytest.mark.parametrize("n_groups", [1, 2, 3])
@pytest.mark.parametrize("kind", ["binary", "number", "text"])
def test_a_test_of_few_groups_claims_nothing_and_breaks_nothing(kind: str, n_groups: int) -> None:
    frame, answer = {
        "binary": (predictions(), BinaryAnswer(kind="binary")),
        "number": (numbers(), NumberAnswer(kind="number")),
        "text": (texts(), TextAnswer(kind="text")),
    }[kind]
    names = [f"panel {int(name[4:]) % n_groups}" for name in frame["example_id"]]
    report = compare(frame.assign(group=names, subgroup=names), answer)
    assert report.outcome == "inconclusive"
    difference = report.decisive.difference
    assert -1 <= difference.low <= difference.estimate <= difference.high <= 1
    for row in report.comparisons.values():
        assert row.difference.low <= row.difference.estimate <= row.difference.high


def test_a_subgroup_of_two_groups_in_a_large_test_breaks_nothing() -> None:
    frame = predictions()
    few = frame["example_id"] < "cell0010"
    report = compare(
        frame.assign(
            subgroup=np.where(few, "rare", "usual"),
            group=np.where(few, "scene" + (frame.index % 2).astype(str), frame["group"]),
        )
    )
    assert {subgroup.name for subgroup in report.subgroups} == {"rare", "usual"}


def test_the_trivial_model_is_chosen_on_the_training_split() -> None:
    frame = predictions()
    train = pd.DataFrame({"answer": ["Yes"] * 9 + ["No"], "score": np.nan})
    [trivial] = compare(frame, train=train).baselines
    assert trivial.name == "always “Yes”"
    assert trivial.metrics["accuracy"] == pytest.approx((frame["truth"] == "Yes").mean())


def test_a_task_chooses_what_decides() -> None:
    frame = texts(fine_tuned=0.5)
    exact = (frame["role"] == "fine_tuned") & (frame["text"].str.startswith("word")) & (frame.index % 2 == 0)
    frame.loc[exact, "predicted"] = frame.loc[exact, "truth"]
    report = compare(frame, TextAnswer(kind="text"), metric="exact_match")
    assert report.primary == "exact_match" == next(iter(report.comparisons))
    assert report.decisive.fine_tuned.estimate == pytest.approx(exact.sum() / 100)
    assert report.n_fixed == exact.sum() and "points of exact match" in report.verdict


@pytest.mark.parametrize("kind", ["binary", "choice"])
def test_balanced_accuracy_can_decide(kind: str) -> None:
    options = ["a", "b", "c"]
    frame = predictions() if kind == "binary" else choices(options)
    answer = BinaryAnswer(kind="binary") if kind == "binary" else ChoiceAnswer(kind="choice", options=options)
    report = compare(frame, answer, metric="balanced_accuracy")
    rows = frame.loc[frame["role"] == "fine_tuned"].fillna({"predicted": "none"})
    recalls = [(rows["predicted"] == rows["truth"])[rows["truth"] == word].mean() for word in set(rows["truth"])]
    assert report.decisive.fine_tuned.estimate == pytest.approx(np.mean(recalls))
    assert report.over_baseline.estimate == pytest.approx(np.mean(recalls) - 1 / len(recalls))
    assert report.outcome == "better"


def test_doubtful_examples_are_reported_apart() -> None:
    frame = predictions()
    doubtful = frame["example_id"] < "cell0030"
    report = compare(frame.assign(doubtful=doubtful))
    assert [(part.name, part.n) for part in report.by_doubt] == [("clear", 90), ("doubtful", 30)]
    assert compare(frame).by_doubt == ()


def test_models_are_ranked_on_the_same_examples() -> None:
    frame = changed(predictions(), 3, p_positive=None)
    tuned = frame[(frame["role"] == "fine_tuned") & (frame["example_id"] != "cell0003")]
    expected = sklearn.metrics.roc_auc_score(tuned["truth"] == "Yes", tuned["p_positive"].astype(float))
    assert compare(frame).fine_tuned.metrics["roc_auc"] == pytest.approx(expected)


def test_without_log_probabilities_the_answers_are_still_compared() -> None:
    report = compare(predictions().assign(p_positive=None, p_truth=None))
    assert list(report.comparisons) == ["accuracy", "balanced_accuracy", "f1", "mcc"]
    assert all(example.p_truth is None for example in report.worst)


def test_examples_of_one_group_count_as_one_draw() -> None:
    frame = predictions()
    copies = [frame.assign(example_id=frame["example_id"] + f"-{k}") for k in range(4)]
    alone, grouped = compare(frame).comparisons, compare(pd.concat(copies)).comparisons
    for name, tolerance in (("f1", 1e-9), ("accuracy", 0.01)):
        once, copied = alone[name].difference, grouped[name].difference
        assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=tolerance)


def test_an_inconclusive_benchmark_says_how_many_examples_would_settle_it() -> None:
    frame = predictions(base=0.7, fine_tuned=0.76, seed=2)
    report = compare(frame)
    needed = needed_examples(correct(frame, "base"), correct(frame, "fine_tuned"), np.arange(120))
    assert report.outcome == "inconclusive"
    assert report.n_needed == needed and needed is not None and needed > 120
    assert f"about {needed:,} such test examples would be needed to show it (80 % of the time)" in report.verdict
    assert compare(predictions()).n_needed is None


def test_a_gain_in_a_few_groups_is_not_significant_however_many_examples_they_have() -> None:
    frame = predictions()
    frame["predicted"] = np.where(frame["role"] == "base", "No", "Yes")
    frame["truth"] = "Yes"
    report = compare(frame.assign(group=[f"panel {i % 5}" for i in range(len(frame))]))
    assert report.decisive.difference.low < 0.5 < report.decisive.difference.high == 1.0
    assert report.p_value == pytest.approx(2 / 2**5)
    assert report.outcome == "inconclusive"


def test_the_worst_examples_are_the_surest_mistakes() -> None:
    report = compare(predictions(fine_tuned=0.6))
    p_truth = [example.p_truth for example in report.worst if example.p_truth is not None]
    assert len(p_truth) == len(report.worst) == 12
    assert p_truth == sorted(p_truth)
    assert max(p_truth) < 0.5
    assert all(example.predicted != example.truth for example in report.worst)


def test_other_words_than_yes_and_no_come_from_the_task() -> None:
    frame = predictions().replace({"Yes": "Defective", "No": "Intact"})
    report = compare(frame, BinaryAnswer(kind="binary", positive="Defective", negative="Intact"))
    assert report.decisive.difference == compare(predictions()).decisive.difference
    with pytest.raises(EvaluationError, match="found \\['Defective', 'Intact'\\]"):
        compare(frame)


def test_the_report_is_json() -> None:
    report = compare(predictions())
    data = json.loads(json.dumps(report.to_dict()))
    assert data["comparisons"]["accuracy"]["difference"]["low"] == report.decisive.difference.low
    assert data["base"]["confusion"]["labels"] == ["Yes", "No"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns=["latency_s", "error"]), r"lack the columns \['latency_s', 'error'\]"),
        (lambda f: f.drop(index=125), "1 test examples were asked of one model only, such as 'cell0005'"),
        (lambda f: pd.concat([f, f.head(1)]), "asked once of each role"),
        (lambda f: changed(f, 0, truth="Yes" if f["truth"][0] == "No" else "No"), "'cell0000' differs"),
        (lambda f: f.assign(split="calibration"), "got 0: enlarge the test split"),
    ],
)
def test_predictions_that_cannot_be_compared_are_refused(spoil: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        compare(spoil(predictions()))


def test_a_choice_is_judged_by_accuracy_with_unreadable_answers_wrong() -> None:
    options = ["physics", "chemistry", "biology"]
    frame = choices(options)
    report = compare(frame, ChoiceAnswer(kind="choice", options=options))
    rows = frame.loc[frame["role"] == "fine_tuned"]
    given = np.array([word if isinstance(word, str) else "unreadable" for word in rows["predicted"]])
    assert (report.kind, report.primary, report.outcome) == ("choice", "accuracy", "better")
    assert report.fine_tuned.metrics["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(rows["truth"], given))
    assert report.fine_tuned.metrics["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(rows["truth"], given, labels=options, average="macro")
    )
    assert report.fine_tuned.n_unparseable == (given == "unreadable").sum() > 0
    assert report.fine_tuned.confusion is not None
    assert np.sum(report.fine_tuned.confusion.counts) == 150
    assert report.p_value == mcnemar(correct(frame, "base"), correct(frame, "fine_tuned"))


PRICE = NumberAnswer(kind="number", template="${}", tolerance=0.2, tolerance_absolute=40)


def test_numbers_are_judged_by_the_share_within_tolerance_with_the_error_beside_it() -> None:
    frame = numbers()
    report = compare(frame, PRICE)
    error = {
        role: np.abs(rows["predicted_value"].to_numpy() - rows["truth_value"].to_numpy())
        for role, rows in frame.groupby("role")
    }
    assert (report.primary, report.outcome) == ("within_tolerance", "better")
    mae = report.comparisons["mae"]
    assert mae.difference.estimate == pytest.approx(error["fine_tuned"].mean() - error["base"].mean())
    assert mae.p_value == paired_permutation(error["base"], error["fine_tuned"])
    assert (mae.higher_is_better, mae.is_share) == (False, False)
    assert f"Mean absolute error: {error['fine_tuned'].mean():.2f} against {error['base'].mean():.2f}, better (-" in (
        report.verdict
    )
    truth = frame["truth_value"].to_numpy()[:150]
    assert {baseline.name for baseline in report.baselines} == {
        report.baselines[0].name,
        f"always {truth.mean():.2f}, the mean",
        f"always {np.median(truth):.2f}, the median",
    }
    assert report.baselines[0].name.endswith(", which is good most often")
    assert (
        max(one.metrics["within_tolerance"] or 0 for one in report.baselines)
        == (report.baselines[0].metrics["within_tolerance"])
    )
    assert [baseline.metrics["spearman"] for baseline in report.baselines] == [None, None, None]


def test_a_model_that_is_more_often_near_but_wilder_is_said_to_be_both() -> None:
    frame = numbers(base=0.9, fine_tuned=0.1)
    # The base model's 150 rows come first.
    frame.loc[150:161, "predicted_value"] = 50_000.0
    report = compare(frame, PRICE)
    assert report.outcome == "better"
    assert report.comparisons["mae"].difference.low > 0
    assert report.comparisons["outlier_share"].fine_tuned.estimate == pytest.approx(12 / 150)
    assert "Mean absolute error" in report.verdict and "worse (+" in report.verdict
    assert report.worst[0].predicted is not None and len(report.worst) == 12


def test_the_bands_are_those_of_the_product_price_course() -> None:
    frame = numbers(seed=3)
    report = compare(frame, PRICE)
    colours = {"green": 0, "orange": 0, "red": 0}
    for truth, guess in frame.loc[frame["role"] == "base", ["truth_value", "predicted_value"]].to_numpy():
        error = abs(guess - truth)
        if error < 40 or error / truth < 0.2:
            colours["green"] += 1
        elif error < 80 or error / truth < 0.4:
            colours["orange"] += 1
        else:
            colours["red"] += 1
    assert report.base.bands == colours
    assert report.base.metrics["within_tolerance"] == pytest.approx(colours["green"] / 150)


def test_a_text_is_judged_by_whether_it_holds_the_answer() -> None:
    frame = texts()
    report = compare(frame, TextAnswer(kind="text"))
    holds = frame["text"].str.startswith("word")
    tuned = frame["role"] == "fine_tuned"
    assert (report.primary, report.outcome) == ("contains_answer", "better")
    assert report.decisive.difference.estimate == pytest.approx(holds[tuned].mean() - holds[~tuned].mean())
    # word17 of "word17 it is": two of four words are shared twice over, 2 * 1 / (1 + 3)
    assert report.fine_tuned.metrics["token_f1"] == pytest.approx(0.5 * holds[tuned].mean())
    assert report.fine_tuned.metrics["format_adherence"] == 0
    assert report.worst[0].p_predicted == frame.loc[tuned & ~holds, "p_predicted"].max()


def test_a_model_that_never_gives_a_readable_number_is_wrong_throughout() -> None:
    frame = numbers()
    silent = frame["role"] == "base"
    frame.loc[silent, "predicted_value"] = np.nan
    frame.loc[silent, "predicted"] = None
    report = compare(frame, PRICE)
    assert (report.base.n_unparseable, report.base.metrics["within_tolerance"]) == (150, 0)
    # It has no errors, which would make one that answers look worse.
    assert report.base.metrics["mae"] is None
    assert list(report.comparisons) == ["within_tolerance"]


def test_the_champion_is_compared_with_its_successor_on_the_same_examples() -> None:
    frame = predictions(n=150, fine_tuned=0.9)
    champion = role("champion", (frame.loc[frame["role"] == "base", "truth"] == "Yes").to_numpy(), 0.5, seed=9)
    report = compare(pd.concat([frame, champion], ignore_index=True))
    against = report.over_champion
    assert against is not None and (against.champion.model, against.n) == ("champion-model", 150)
    right = [result.metrics[report.primary] or 0 for result in (report.fine_tuned, against.champion)]
    assert against.difference.estimate == pytest.approx(right[0] - right[1])
    assert against.outcome == "better" and "is better" in against.verdict
    # Nothing else changes.
    alone = compare(frame)
    assert alone.over_champion is None
    assert report.to_dict() | {"over_champion": None} == alone.to_dict()


def test_answers_have_their_latency_and_their_price() -> None:
    frame = predictions(n=100).assign(prompt_tokens=1000, completion_tokens=10)
    frame["latency_s"] = np.tile(np.arange(1, 101) / 100, 2)
    prices = Prices(base=TokenPrices(input=2, output=10), batch_share=0.5)
    report = compare(frame, prices=prices)
    # 100 answers of 1,000 tokens for 2 USD a million, and of 10 tokens for 10.
    assert report.base.cost_usd == pytest.approx(100 * (1000 * 2 + 10 * 10) / 1e6)
    assert report.fine_tuned.cost_usd is None
    assert (report.base.prompt_tokens, report.base.completion_tokens) == (100_000, 1000)
    assert (report.base.median_latency_s, report.base.p95_latency_s) == (
        pytest.approx(0.505),
        pytest.approx(0.9505),
    )


def test_answers_from_a_batch_cost_less_and_have_no_latency() -> None:
    frame = predictions(n=100).assign(prompt_tokens=1000, completion_tokens=10, latency_s=np.nan)
    price = Prices(base=TokenPrices(input=2, output=10), batch_share=0.5)
    report = compare(frame, prices=price)
    assert report.base.cost_usd == pytest.approx(0.5 * 100 * (1000 * 2 + 10 * 10) / 1e6)
    assert (report.base.median_latency_s, report.base.p95_latency_s) == (None, None)
