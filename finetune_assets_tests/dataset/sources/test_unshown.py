"""Letters are not to be asked for without what they stand for."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.dataset.sources.unshown import unshown
from finetune_assets.task.answers import ChoiceAnswer
from finetune_assets.task.sources import TableSource

LISTED = "A: {choices.0}\\nB: {choices.1}\\nC: {choices.2}"
WRITTEN = "['one', 'two', 'three']"
ONE_COLUMN_EACH = "A: {opa}\\nB: {opb}\\nC: {opc}"


@pytest.mark.parametrize(
    ("columns", "remedy"),
    [
        ({"choices": ["one", "two", "three"]}, LISTED),
        (
            {"choices": {"text": ["one", "two", "three"], "label": list("ABC")}},
            LISTED.replace("choices", "choices.text"),
        ),
        ({"choices": WRITTEN}, "Answers, from A on: {choices}"),
        ({"opa": "one", "opb": "two", "opc": "three"}, ONE_COLUMN_EACH),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_letters_whose_meaning_is_not_asked_are_told_with_the_question_that_asks_it(
    columns: dict[str, object], remedy: str, ending: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame([{"q": f"{n}?", **columns, "a": "ABC"[n % 3], "scan": b"bytes"} for n in range(9)])
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        frame.drop(columns="scan").to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    letters = ChoiceAnswer(kind="choice", options=["A", "B", "C"])

    def told(question: str) -> str:
        fields = {"kind": "table", "path": path.name, "question": question, "answer": "{a}", "region": "all"}
        return unshown(TableSource.model_validate(fields, context={"folder": tmp_path}), letters, [UPath(path)])

    doubt = told("{q}")
    assert doubt.endswith(f'does not show what they stand for: write `question: "{{q}}\\n{remedy}"` under source')
    assert told(json.loads(doubt.split("question: ")[1].removesuffix("` under source"))) == ""


def test_letters_that_may_be_counted_in_two_ways_are_told_without_a_guess(tmp_path: Path) -> None:
    rows = [{"q": f"{n}?", "options": ["w", "x", "y", "z"], "a": str(1 + n % 3)} for n in range(9)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fields = {"kind": "table", "path": "t.jsonl", "question": "{q}", "answer": "{a}", "region": "all"}
    source = TableSource.model_validate(fields, context={"folder": tmp_path})
    doubt = unshown(source, ChoiceAnswer(kind="choice", options=["1", "2", "3"]), [UPath(tmp_path / "t.jsonl")])
    assert "whether the answers are counted from 0 or 1 in options is not certain" in doubt
    assert doubt.endswith("so write all of it as `question` under source")
