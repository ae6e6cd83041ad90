from pathlib import Path

from finetune_assets.dataset.sources import read
from finetune_assets.task import BinaryAnswer, ImageQaSource, ScoredImagesSource

INPUTS = Path(__file__).parents[3] / "data" / "inputs"
ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def test_the_shipped_example_table_gives_the_same_rows_as_csv_and_jsonl() -> None:
    rows = []
    for name in ("panels.csv", "panels.jsonl"):
        source = ScoredImagesSource.model_validate(
            {"kind": "scored_images", "path": str(INPUTS / "scored_images" / name)}
        )
        examples = [example for region in ("r2a", "r9") for example in read(source, region, ANSWER)]
        rows.append([(e.id, e.region, e.score, e.answer, e.image, e.group, e.problem) for e in examples])
    assert rows[0] == rows[1]
    assert [answer for _, _, _, answer, *_ in rows[0]] == ["No", "Yes", "No", "Yes"]


def test_the_shipped_image_questions_are_read_by_region() -> None:
    table = str(INPUTS / "image_qa" / "qa_letters.json")
    settings = {"kind": "image_qa", "path": table, "images": "images", "region_pattern": "^([a-z]+)_"}
    source = ImageQaSource.model_validate(settings)
    answers = {region: [e.answer for e in read(source, region, ANSWER)] for region in ("axial", "coronal", "sagittal")}
    assert answers == {"axial": ["Yes", "Yes", "No", "No"], "coronal": ["No", "Yes", "Yes", "No"], "sagittal": []}


def test_a_key_that_the_source_repeats_is_numbered(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("image_url,score,region\na.png,0,r1\na.png,1,r1\nb.png,1,r1\n")
    source = ScoredImagesSource.model_validate({"kind": "scored_images", "path": str(table)})
    assert [e.id for e in read(source, "r1", ANSWER)] == ["r1/a.png", "r1/a.png#2", "r1/b.png"]
