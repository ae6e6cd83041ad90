"""A model that will be shut down, rescued: how near its student comes, and what share of the inputs people looked at.

The demo's model of `poly` plays the dying one. It labels 300 cells that neither it nor its test has seen, the experts
decide those that it was least sure of as reviewers would, and a student learns from all of them. Both then answer the
test split of `solar_cells`. Everything goes through the commands that a user has, in a folder of its own; interrupted,
it goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from finetune_assets.dataset.sources import elpv
from finetune_assets.dataset.sources.packages import data_folder
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import NewEvent, record
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.sources import ElpvSource

TASK, REGION, STUDENT = "solar_cells", "poly", "solar_cells_rescued"
N_INPUTS = 300
FIRST = ("sampled_examples", "human_feedback", "filtered_qa")


def main() -> None:
    """Do it, and print a table. The argument is the folder, in which a demo may have been made already."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "var/rescue").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    ours("demo", "--task", TASK, "--region", REGION)
    teacher = json.loads(output(TASK, "champion", ".json").read_text())["history"][-1]["model"]
    truths = unlabelled(Path("unlabelled"))
    inputs = ("rescue", TASK, "--from", teacher, "--region", REGION)
    labelled = json.loads(ours(*inputs, "--inputs", "unlabelled", "--format", "json"))
    for stage in FIRST:
        materialised(stage)
    people = decided_by_experts(truths)
    ours("demo", "--task", STUDENT)
    told(teacher, labelled, people, json.loads(ours(*inputs, "--format", "json")), truths)


def ours(*arguments: str) -> str:
    """Run a command of the package; return what it printed."""
    command = [sys.executable, "-m", "finetune_assets.cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"finetune-assets {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def output(task: str, stage: str, ending: str) -> Path:
    """Where a stage has left something."""
    return Path("data/outputs") / task / stage / f"{REGION}{ending}"


def unlabelled(folder: Path) -> dict[str, str]:
    """Copy cells that the old task did not draw, and return what experts say of each, by file name."""
    drawn = set(pd.read_parquet(output(TASK, "sampled_examples", ".parquet"), columns=["example_id"])["example_id"])
    source, answer = ElpvSource(kind="elpv"), BinaryAnswer(kind="binary")
    cells = [cell for cell in elpv.read(source, REGION, answer) if cell.id not in drawn][:N_INPUTS]
    if len(cells) < N_INPUTS:
        raise SystemExit(f"only {len(cells)} cells of {REGION} were not drawn")
    folder.mkdir(exist_ok=True)
    for cell in cells:
        shutil.copy(data_folder("elpv_dataset", "elpv-dataset") / str(cell.image), folder)
    return {Path(str(cell.image)).name: str(cell.answer) for cell in cells}


def materialised(stage: str) -> None:
    """Make a first stage of the student's task, so that reviewers have something before them."""
    where = ("--select", f"{STUDENT}/{stage}", "--partition", REGION)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "finetune_assets.definitions", *where]
    home = Path("var/dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, env=os.environ | {"DAGSTER_HOME": str(home)}, check=True, capture_output=True)


def decided_by_experts(truths: dict[str, str]) -> int:
    """Decide each doubtful label as the experts did, and return how many these were."""
    examples = pd.read_parquet(output(STUDENT, "sampled_examples", ".parquet"))
    doubtful = examples.loc[examples["doubt"].notna()]
    with FeedbackDatabase() as db:
        for example_id, image, answer in doubtful[["example_id", "image", "answer"]].itertuples(index=False):
            truth = truths[Path(image).name]
            kind = "accept" if truth == answer else "correct"
            event = NewEvent(
                key=f"expert-{example_id}", task=STUDENT, region=REGION, example_id=example_id, reviewer="experts",
                kind=kind, answer=truth,
            )  # fmt: skip
            record(db, event)
    return len(doubtful)


def told(teacher: str, labelled: dict[str, Any], people: int, found: dict[str, Any], truths: dict[str, str]) -> None:
    """Print what was found."""
    row = found["comparisons"][found["primary"]]
    n, n_inputs = found["n"], labelled["n"] + len(labelled["refused"])
    print(f"Teacher: {teacher}\n")
    print("| what | estimate | 95 % |\n| --- | --- | --- |")
    for what, of in (
        (f"teacher's accuracy (n {n})", row["base"]),
        (f"student's accuracy (n {n})", row["fine_tuned"]),
        ("difference", row["difference"]),
        ("both answer alike", found["agreement"]),
    ):
        print(f"| {what} | {of['estimate']:+.3f} | {of['low']:+.3f} to {of['high']:+.3f} |")
    right = sum(truths[Path(line["image"]).name] == line["answer"] for line in lines(labelled["table"]))
    print(f"\n{people} of {n_inputs} inputs ({people / n_inputs:.1%}) were shown to a person.")
    share = right / labelled["n"]
    print(f"The teacher was right about {right} of {labelled['n']} ({share:.1%}) by the experts' labels.")
    print(f"p = {found['p_value']:.2g}. {found['verdict']}")


def lines(table: str) -> list[dict[str, Any]]:
    """The rows of the student's table."""
    return [json.loads(line) for line in Path(table).read_text().splitlines()]


if __name__ == "__main__":
    main()
