"""Labels of the source beside those of reviewers, and what neither of two candidates chose."""

import numpy as np
import pandas as pd
import pytest

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets_tests.evaluation.predictions import predictions, role


def relabelled(reviewed_in: str | None) -> pd.DataFrame:
    """Every mistake of the fine-tuned model declared to be the truth."""
    frame = predictions(fine_tuned=0.8)
    tuned = frame.loc[frame["role"] == "fine_tuned"].set_index("example_id")["predicted"]
    said = frame["example_id"].map(tuned)
    return frame.assign(source_truth=frame["truth"], source_value=np.nan, truth=said, reviewed_in=reviewed_in)


def test_pressing_the_models_answer_everywhere_changes_nothing_by_the_sources_labels_and_is_seen() -> None:
    honest, report = compare(predictions(fine_tuned=0.8)), compare(relabelled(None))
    labels = report.by_source_labels
    assert report.decisive.fine_tuned.estimate == 1
    assert labels is not None and labels.fine_tuned == honest.decisive.fine_tuned.estimate
    assert labels.gain.difference == honest.decisive.difference
    assert (labels.n_towards, labels.n_away) == (labels.n_changed, 0) and labels.bent
    assert "by the source's own labels the fine-tuned model is right in" in report.verdict.lower()
    assert honest.by_source_labels is None


def test_labels_that_were_changed_blind_are_reported_and_bend_nothing() -> None:
    labels = compare(relabelled("audit")).by_source_labels
    assert labels is not None and labels.n_towards > 0 and not labels.bent


def succession(reviewed: bool) -> pd.DataFrame:
    """A champion and a successor that are right equally often, by a source of whose labels a sixth are wrong.

    Both say the truth of 15 such examples each, but reviewers have looked at what the champion denies alone, or, where
    `reviewed`, at both.
    """
    true, source = np.tile([True, False], 90), np.tile([True, False], 90)
    source[:30] = ~source[:30]
    champions, own = np.arange(180) < 15, (np.arange(180) >= 15) & (np.arange(180) < 30)
    seen = champions | own if reviewed else champions
    word = np.array(["No", "Yes"])
    today = np.where(seen, word[true.astype(int)], word[source.astype(int)])
    frames = [
        role(name, says, 1, seed, source_truth=word[source.astype(int)], source_value=np.nan)
        for name, says, seed in (
            ("base", source, 1),
            ("fine_tuned", np.where(own, true, source), 2),
            ("champion", np.where(champions, true, source), 3),
        )
    ]
    labels = {"truth": np.tile(today, 3), "reviewed_in": ["contested" if one else None for one in seen] * 3}
    return pd.concat(frames, ignore_index=True).assign(**labels)


def test_a_successor_is_not_judged_by_labels_that_were_corrected_because_the_champion_denied_them() -> None:
    report = compare(succession(reviewed=False))
    against = report.over_champion
    assert against is not None and (against.difference.estimate, against.outcome) == (0, "inconclusive")
    assert against.n_by_source == 15 and "15 count here as the source has them" in against.verdict
    # By today's labels it would be 15 examples worse.
    assert report.fine_tuned.metrics["accuracy"] == pytest.approx(1 - 30 / 180)
    assert against.champion.metrics["accuracy"] == 1


def test_corrected_labels_count_once_all_that_either_model_denies_was_reviewed() -> None:
    against = compare(succession(reviewed=True)).over_champion
    assert against is not None and (against.difference.estimate, against.n_by_source) == (0, 0)
    assert against.verdict.count("source") == 0


def test_labels_of_a_random_sample_count_in_every_comparison() -> None:
    frame = succession(reviewed=False)
    against = compare(frame.assign(reviewed_in=frame["reviewed_in"].replace("contested", "audit"))).over_champion
    assert against is not None and (against.n_by_source, against.difference.estimate) == (0, pytest.approx(-30 / 180))
