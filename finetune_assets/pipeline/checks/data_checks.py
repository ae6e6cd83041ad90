"""The asset checks about a region's data and training files: what stops it before money is spent, or warns.

Each message names the region, what was found and what is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import dagster as dg
import pandas as pd

from finetune_assets.asking.predictions import CALIBRATED
from finetune_assets.asking.spending import ArmCost
from finetune_assets.dataset.belonging.apart import Leak
from finetune_assets.dataset.images import LOW_CONTRAST
from finetune_assets.dataset.label_errors import LabelErrors
from finetune_assets.dataset.sampling import Sample
from finetune_assets.dataset.table import Table
from finetune_assets.evaluation.sample_size import examples_to_show
from finetune_assets.evaluation.statistics import FEW_GROUPS
from finetune_assets.pipeline.checks.check import Check
from finetune_assets.task import SPLITS, Sampling, Split
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, ScoreAnswer
from finetune_assets.training_file.findings import Report
from finetune_assets.training_file.target import Target

MIN_TRAINING_EXAMPLES = 10
"""What OpenAI asks of a training file; below it a job is refused."""
MIN_HELD_OUT_GROUPS = 3
"""Of fewer in a split neither the benchmark's nor the calibrator's intervals mean anything."""
MAX_QUARANTINE_SHARE = 0.25
MAX_BROKEN_IMAGES_SHARE = 0.05
MAX_GROUP_SHARE = 0.5
MAX_CLOSE_SHARE = 0.5
_FEW = 4
"""Rows of which a group may well be the half."""
_IN_WORDS = {"image_sha256": "images", "look": "look-alike images", "group": "groups", "text": "near-equal texts"}
_APART_AGAIN = (
    "Mend published splits; where a group was named, or data joined, after the splits were drawn, materialise "
    "sampled_examples with draw_anew in the launchpad."
)
_ONE_SPLIT = (
    "all of it is in one split, so the others are small or empty. If it is one scene or patient, add others; if its "
    "images only look alike, set filtering.near_duplicates to false and name their group (source.group)"
)
_SEEN_BEFORE = (
    "it would be judged by what it knows. Go back to the seed and amounts of before, or materialise sampled_examples "
    "with draw_anew in the launchpad, and train again before models are compared"
)
NOTHING_SET_ASIDE = Counter[str]()


SPLIT_SIZES = Check(
    "split_sizes", "Each split is about as large as the task asks; large groups and scarce data prevent it."
)
WHOLE_IMAGES = Check(
    "whole_images", f"At most {MAX_BROKEN_IMAGES_SHARE:.0%} of the images are missing, damaged or of no use."
)
SAME_RANGE = Check(
    "same_range", "All images of more than 8 bits are shown in one range, and hardly any is nearly of one grey."
)
ENOUGH_EXAMPLES = Check(
    "enough_examples",
    f"At least {MIN_TRAINING_EXAMPLES} examples to train on, one to validate with, and examples of "
    f"{MIN_HELD_OUT_GROUPS} groups to calibrate and to test with.",
    blocking=True,
)
BOTH_ANSWERS = Check(
    "both_answers",
    "Both answers occur in what trains, calibrates and tests the model; of several, each trains and two are tested.",
    blocking=True,
)
GAIN_CAN_BE_SHOWN = Check(
    "gain_can_be_shown",
    f"The test split has the {FEW_GROUPS} groups without which no gain can be proved, and is large enough to show the "
    "smallest gain that matters (`benchmark.smallest_gain`).",
)
NO_LEAKAGE = Check(
    "no_leakage", "No image, look-alike, group of examples or near-equal text is in two splits.", blocking=True
)
CLEAR_NAMES = Check(
    "clear_names",
    "In the first rows no column of patients or annotators is unused, scores have one scale, regions one spelling.",
)
GROUPS_DIVIDE = Check(
    "groups_divide",
    f"No group of examples that have to stay together is more than {MAX_GROUP_SHARE:.0%} of a region.",
    blocking=True,
)
UNSEEN_TEST = Check(
    "unseen_test", "No example of the test has trained a model in an earlier draw of the splits.", blocking=True
)
CLOSE_NEIGHBOURS = Check(
    "close_neighbours", f"At most {MAX_CLOSE_SHARE:.0%} of the test's images nearly look like one that trains."
)
LITTLE_QUARANTINE = Check(
    "little_quarantine", f"At most {MAX_QUARANTINE_SHARE:.0%} of the sampled examples were set aside."
)
LIKELY_LABELS = Check("likely_labels", "No label looks wrong beside the examples like it.")
SMALL_ENOUGH = Check("small_enough", "Each training file is as small as the provider takes it.", blocking=True)
VALID_FORMAT = Check("valid_format", "The training files hold nothing that a provider refuses.", blocking=True)
WITHIN_BUDGET = Check("within_budget", "The estimated cost of training is within the task's budget.", blocking=True)


def _sizes(counts: pd.DataFrame) -> dict[str, int]:
    """Number of examples by split, whatever their answers."""
    return {str(split): int(sum(row)) for split, *row in counts.itertuples(name=None)}


def split_sizes(
    region: str, counts: pd.DataFrame, n_usable: int, sampling: Sampling, published: str = ""
) -> dg.AssetCheckResult:
    """Judge the number of sampled examples in each split: off by a fifth, and by two standard errors, is off.

    Splits that are `published` have the sizes that they were published with.
    """
    if published:
        return SPLIT_SIZES.result(True, f"Region {region}: {published}.")
    sizes = _sizes(counts)
    off = []
    for split, amount in sampling.amounts.items():
        wanted = amount if sampling.by_count else amount * n_usable
        if abs(sizes[split] - wanted) > max(0.2 * wanted, 2 * wanted**0.5):
            off.append(f"{split} has {sizes[split]}, not about {wanted:.0f}")
    advice = "; the groups are large or the data is scarce: look at the groups, or sample other amounts" if off else ""
    words = "; ".join(off) or "every split is about as large as asked"
    return SPLIT_SIZES.result(not off, f"Region {region}: {words}{advice}.")


def whole_images(region: str, sampled: Table) -> dg.AssetCheckResult:
    """Judge the images that could not be read."""
    n_images, broken = 0, Counter[str]()
    for chunk in sampled.chunks(["image", "problem"]):
        is_broken = chunk["problem"].fillna("").str.startswith("image_")
        # An image that lies where none may has no address.
        n_images += int((chunk["image"].notna() | is_broken).sum())
        broken.update(chunk["problem"][is_broken])
    if not n_images:
        return WHOLE_IMAGES.result(True, f"Region {region}: no example has an image.")
    share = broken.total() / n_images
    found = ", ".join(f"{n} {problem}" for problem, n in broken.most_common()) or "all whole"
    return WHOLE_IMAGES.result(
        share <= MAX_BROKEN_IMAGES_SHARE, f"Region {region}: of {n_images} images {found} ({share:.0%})."
    )


def same_range(region: str, sampled: Table) -> dg.AssetCheckResult:
    """Judge whether the greys of two images mean the same, and whether there are any."""
    n_images, n_faint, by = 0, 0, Counter[str]()
    for chunk in sampled.chunks(["image_range", "image_contrast"]):
        contrast = chunk["image_contrast"].dropna()
        n_images += len(contrast)
        n_faint += int((contrast.to_numpy() < LOW_CONTRAST).sum())
        by.update(chunk["image_range"].dropna())
    wrong = []
    if by["image"]:
        wrong.append(
            f"of {by.total()} images of more than 8 bits {by['image']} are shown in the range that each one holds, so "
            "the same grey means other values in another image; name one for all: `window: [low, high]` under `source`"
        )
    if n_faint > MAX_BROKEN_IMAGES_SHARE * n_images:
        wrong.append(f"{n_faint} of {n_images} images have fewer than {LOW_CONTRAST} of 256 greys; look at them")
    good = f"{by.total()} images of more than 8 bits are shown in the range of the task or of their files"
    return SAME_RANGE.result(not wrong, f"Region {region}: {'; '.join(wrong) or good}.")


def enough_examples(
    region: str, counts: pd.DataFrame, groups: Mapping[Split, int], set_aside: Counter[str] = NOTHING_SET_ASIDE
) -> dg.AssetCheckResult:
    """Judge the number of clean examples in each split.

    Args:
        region: Whose examples they are.
        counts: Examples by split (rows) and answer (columns).
        groups: Groups by split; an example that stands alone is one.
        set_aside: Examples that were set aside, by reason.
    """
    sizes = _sizes(counts)
    found = ", ".join(f"{sizes[split]} for {split}" for split in SPLITS)
    held_out = {split: groups[split] for split in CALIBRATED}
    enough = sizes["train"] >= MIN_TRAINING_EXAMPLES and all(sizes[split] for split in SPLITS)
    enough &= min(held_out.values()) >= MIN_HELD_OUT_GROUPS
    in_groups = " and ".join(f"{n} in {split}" for split, n in held_out.items())
    need = (
        f"at least {MIN_TRAINING_EXAMPLES} for train, 1 for validation and {MIN_HELD_OUT_GROUPS} groups in calibration "
        f"and in test are needed (there are {in_groups})"
    )
    advice = "" if enough else "; add labelled examples (in more groups: none is divided), or sample a larger share"
    if not enough and set_aside:
        reason, n = set_aside.most_common(1)[0]
        advice += f"; {set_aside.total()} were set aside, most of them ({n}) as {reason}"
    return ENOUGH_EXAMPLES.result(enough, f"Region {region} has {found}; {need}{advice}.")


def gain_can_be_shown(region: str, n_test: int, n_groups: int, smallest: float | None) -> dg.AssetCheckResult:
    """Judge, before a training is paid for, whether its benchmark can prove anything.

    Args:
        region: Whose test split it is.
        n_test: Its examples.
        n_groups: Their groups; an example that stands alone is one.
        smallest: Smallest gain that matters; None where the task does not say.
    """
    lacking = []
    if n_groups < FEW_GROUPS:
        lacking.append(
            f"of fewer than {FEW_GROUPS} groups no gain can be proved, however large: add groups to the test"
        )
    least, most = examples_to_show(smallest) if smallest else (0, 0)
    if n_test < least:
        lacking.append(
            f"a gain of {100 * (smallest or 0):g} points takes {least:,} to {most:,} independent test examples to show"
        )
    found = f"Region {region}: the test split has {n_test} examples of {n_groups} groups"
    known = f"; a gain of {100 * smallest:g} points takes {least:,} to {most:,}" if smallest else ""
    return GAIN_CAN_BE_SHOWN.result(not lacking, f"{found}; {'; '.join(lacking)}." if lacking else f"{found}{known}.")


def both_answers(region: str, counts: pd.DataFrame, answer: Answer) -> dg.AssetCheckResult:
    """Judge whether the splits that teach, calibrate and test hold the answers, given by split and answer."""
    if not isinstance(answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
        return BOTH_ANSWERS.result(True, f"Region {region}: answers of kind {answer.kind} have no words to look for.")
    lacking = []
    for split in ("train", "calibration", "test"):
        absent = [str(word) for word, n in counts.loc[split].items() if n == 0]
        if absent and (isinstance(answer, BinaryAnswer) or split == "train" or len(counts.columns) - len(absent) < 2):
            lacking.append(f"{split} has no {', no '.join(map(repr, absent))}")
    words = "; ".join(lacking) or f"every split has {' and '.join(repr(str(word)) for word in counts.columns)}"
    if not lacking and isinstance(answer, ChoiceAnswer | ScoreAnswer):
        words = "every answer trains, and two or more are calibrated and tested"
    advice = "; label examples that have it, or look at `answer` in the YAML" if lacking else ""
    return BOTH_ANSWERS.result(not lacking, f"Region {region}: {words}{advice}.")


def no_leakage(region: str, leaks: Sequence[Leak]) -> dg.AssetCheckResult:
    """Judge what two splits have in common."""
    if not leaks:
        return NO_LEAKAGE.result(True, f"Region {region}: no image, look-alike, group or text is in two splits.")
    kinds = Counter(leak.kind for leak in leaks)
    counts = ", ".join(f"{n} {_IN_WORDS[kind]}" for kind, n in kinds.items())
    first = f"first {leaks[0].value[:60]!r} in {' and '.join(leaks[0].splits)}"
    return NO_LEAKAGE.result(False, f"Region {region}: in two splits are {counts}, {first}. {_APART_AGAIN}")


def clear_names(region: str, doubts: Sequence[str]) -> dg.AssetCheckResult:
    """Judge what the source's own names leave in doubt."""
    return CLEAR_NAMES.result(not doubts, f"Region {region}: {'; '.join(doubts) or 'the names are clear'}.")


def groups_divide(region: str, sampled: Sample) -> dg.AssetCheckResult:
    """Judge the largest group: one that is most of a region leaves nothing to test by."""
    name, size = sampled.largest_group
    share = size / max(sampled.n_usable, 1)
    words = f"Region {region}: the largest group, {name[:60]!r}, has {size} of {sampled.n_usable} ({share:.0%})"
    if share <= MAX_GROUP_SHARE or sampled.n_usable <= _FEW:
        return GROUPS_DIVIDE.result(True, f"{words}.")
    return GROUPS_DIVIDE.result(False, f"{words}; {_ONE_SPLIT}.")


def unseen_test(region: str, sampled: Sample) -> dg.AssetCheckResult:
    """Judge the examples of the test that have trained a model before; say where the splits were drawn anew."""
    anew = f" The splits are drawn anew: before it was {sampled.drawn_before}." if sampled.drawn_before else ""
    if not (n := sampled.n_test_trained):
        return UNSEEN_TEST.result(True, f"Region {region}: no example of the test has trained a model before.{anew}")
    words = f"Region {region}: {n} examples of the test have trained a model before, or belong to such"
    return UNSEEN_TEST.result(False, f"{words}; {_SEEN_BEFORE}.{anew}")


def close_neighbours(region: str, sampled: Sample) -> dg.AssetCheckResult:
    """Judge how near the images of the test come to those that train."""
    found = sampled.closeness
    if not found.n_test or not found.n_train:
        return CLOSE_NEIGHBOURS.result(True, f"Region {region}: there are no images in both test and train.")
    share = found.n_close[max(found.n_close)] / found.n_test
    advice = "" if share <= MAX_CLOSE_SHARE else "; name what they have in common as source.group"
    return CLOSE_NEIGHBOURS.result(share <= MAX_CLOSE_SHARE, f"Region {region}: {found}{advice}.")


def little_quarantine(region: str, n_quarantined: int, n_sampled: int) -> dg.AssetCheckResult:
    """Judge the share of the sampled examples that were set aside."""
    share = n_quarantined / max(n_sampled, 1)
    words = f"Region {region}: {n_quarantined} of {n_sampled} sampled examples ({share:.0%}) were set aside"
    return LITTLE_QUARANTINE.result(share <= MAX_QUARANTINE_SHARE, f"{words}; {MAX_QUARANTINE_SHARE:.0%} are usual.")


def likely_labels(region: str, found: LabelErrors | None) -> dg.AssetCheckResult:
    """Judge the labels that a simple classifier finds unlikely."""
    if found is None:
        return LIKELY_LABELS.result(
            True,
            f"Region {region}: no labels were judged: the task does not ask for it, or its answers are no classes.",
        )
    by_split = Counter(found.suspects["split"])
    words = ", ".join(f"{by_split[split]} in {split}" for split in SPLITS if by_split[split])
    if not words:
        return LIKELY_LABELS.result(True, f"Region {region}: no label looks wrong; {found.note}.")
    return LIKELY_LABELS.result(False, f"Region {region}: labels that look wrong: {words}; {found.note}. Look at them.")


def small_enough(region: str, sizes: Sequence[int], target: Target) -> dg.AssetCheckResult:
    """Judge the size of the training files in bytes."""
    largest, most = max(sizes), target.max_file_bytes
    advice = "" if largest <= most else "; use fewer or smaller images"
    words = f"Region {region}: the largest file has {largest:,} bytes, {most:,} are taken{advice}."
    return SMALL_ENOUGH.result(largest <= most, words)


def valid_format(region: str, report: Report) -> dg.AssetCheckResult:
    """Judge the errors in the training files."""
    errors = [(file, error) for file in report.files for error in file.errors]
    if not errors:
        return VALID_FORMAT.result(True, f"Region {region}: no errors.")
    file, error = errors[0]
    place = file.path if error.line is None else f"{file.path} line {error.line}"
    first = f"{place}: {error.message} ({error.code})"
    return VALID_FORMAT.result(False, f"Region {region}: {len(errors)} errors, the first in {first}.")


def within_budget(
    region: str, cost_usd: float | None, budget_usd: float | None, arms: Sequence[ArmCost] = ()
) -> dg.AssetCheckResult:
    """Judge the estimated cost; under a budget, a price that nobody knows stops as one does that is too high.

    `arms` are those of the task's contest, which are asked from the same budget.
    """
    if budget_usd is None:
        return WITHIN_BUDGET.result(True, f"Region {region}: the task sets no budget.")
    if cost_usd is None:
        words = f"nobody knows what training this model costs, and the budget is {budget_usd:.2f} USD"
        advice = "state `prices` in the task's YAML, or `checks: {within_budget: warn}` to go on all the same"
        return WITHIN_BUDGET.result(False, f"Region {region}: {words}; {advice}.")
    if unknown := [arm.name for arm in arms if arm.usd is None]:
        words = f"nobody knows what the arm {unknown[0]} costs, and the budget is {budget_usd:.2f} USD"
        advice = "state its `prices` in `benchmark.arms`, or leave it out"
        return WITHIN_BUDGET.result(False, f"Region {region}: {words}; {advice}.")
    asked = sum(arm.usd or 0.0 for arm in arms)
    contest = f" and the arms of its contest {asked:.2f} USD" if asked else ""
    words = f"Region {region}: training will cost about {cost_usd:.2f} USD{contest}, the budget is {budget_usd:.2f} USD"
    cost_usd += asked
    raised = "raise budget_usd" if budget_usd else f'name {region}, or "*" for those that are not named, in budget_usd'
    advice = "." if cost_usd <= budget_usd else f"; {raised}, sample fewer examples or train fewer epochs."
    return WITHIN_BUDGET.result(cost_usd <= budget_usd, words + advice)
