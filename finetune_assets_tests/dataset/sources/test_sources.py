import math
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.sources import MAX_REGIONS, Digest, digests, discover, read, version
from finetune_assets.errors import SourceError
from finetune_assets.task.all_sources import Source
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.sources import ElpvSource, HuggingFaceSource, ImageQaSource, ScoredImagesSource, TableSource

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
    assert {answer for _, _, _, answer, *_ in rows[0]} == {"No", "Yes"}


def test_the_shipped_image_questions_are_read_by_region() -> None:
    table = str(INPUTS / "image_qa" / "qa_letters.json")
    settings = {"kind": "image_qa", "path": table, "images": "images", "region_from_question": "(left|above)"}
    source = ImageQaSource.model_validate(settings)
    answers = {region: [e.answer for e in read(source, region, ANSWER)] for region in ("above", "left")}
    assert all(set(found) == {"Yes", "No"} for found in answers.values())


def scored(tmp_path: Path, rows: str) -> ScoredImagesSource:
    table = tmp_path / "table.csv"
    table.write_text(f"image_url,score,region\n{rows}")
    return ScoredImagesSource(kind="scored_images", path=str(table))


def test_a_region_that_the_data_does_not_know_is_refused_with_those_that_it_knows(tmp_path: Path) -> None:
    source = scored(tmp_path, "a.png,0,R1\nb.png,1,r2\nc.png,1,\n")
    with pytest.raises(SourceError, match=r"table\.csv: nothing in it is of the region 'r3'; its regions are r1, r2"):
        list(read(source, "r3", ANSWER))
    with pytest.raises(SourceError, match="its regions are r1. The first problem in it: line 3 has no region"):
        list(read(scored(tmp_path, "a.png,0,R1\nc.png,1,\n"), "r3", ANSWER))
    with pytest.raises(SourceError, match="it names none"):
        list(read(scored(tmp_path, ""), "r3", ANSWER))


def test_a_region_that_has_only_bad_rows_is_known_all_the_same(tmp_path: Path) -> None:
    assert [e.problem for e in read(scored(tmp_path, "a.png,9,r1\n"), "r1", ANSWER)] == ["score_out_of_range"]


def test_regions_are_discovered_in_order_under_their_task_names(tmp_path: Path) -> None:
    assert discover(scored(tmp_path, "a.png,0,Left lung\nb.png,1,R2\nc.png,1,\nd.png,1,r2\nbroken\n")) == [
        "left-lung",
        "r2",
    ]


def test_too_many_regions_are_a_sign_of_the_wrong_column(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has over 10000 regions \(r0, r1, r10, \.\.\.\); name another column"):
        discover(scored(tmp_path, "".join(f"a.png,0,r{n}\n" for n in range(MAX_REGIONS + 1))))


def test_the_version_of_a_source_changes_with_its_files(tmp_path: Path) -> None:
    source = scored(tmp_path, "a.png,0,r1\n")
    first = version(source)
    assert version(source) == first
    with (tmp_path / "table.csv").open("a") as table:
        table.write("b.png,0,r2\n")
    assert version(source) != first
    assert version(ElpvSource(kind="elpv")) == "elpv"
    assert version(HuggingFaceSource(kind="huggingface", name="allenai/sciq")).startswith("allenai/sciq 20")


def digest(source: Source, region: str) -> str:
    found = Digest()
    deque(found.over(read(source, region, ANSWER)), maxlen=0)
    return str(found)


def test_the_digest_of_a_region_is_of_its_own_rows_wherever_they_are(tmp_path: Path) -> None:
    rows, others = "a.png,0,r1\nb.png,9,r1\n", "c.png,1,r2\n"
    before = digest(scored(tmp_path, rows), "r1")
    assert digest(scored(tmp_path, others + rows + others), "r1") == before


@pytest.mark.parametrize("rows", ["a.png,1,r1\nb.png,9,r1\n", "a.png,0,r1\n", "z.png,0,r1\nb.png,9,r1\n"])
def test_the_digest_of_a_region_changes_with_a_label_a_row_or_an_image(tmp_path: Path, rows: str) -> None:
    before = digest(scored(tmp_path, "a.png,0,r1\nb.png,9,r1\n"), "r1")
    assert digest(scored(tmp_path, rows), "r1") != before


CELLS = st.sampled_from(["r1", "R2", "", "r 3", "!"])
ROWS = st.lists(st.tuples(CELLS, st.sampled_from(["0", "1", "9", "", "x"]), st.integers(0, 9)), max_size=30)


@pytest.mark.parametrize("votes", [False, True])
@given(rows=ROWS)
def test_one_reading_gives_every_region_the_digest_that_it_has_alone(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]], votes: bool
) -> None:
    table = tmp_path_factory.mktemp("rows") / "rows.csv"
    lines = [f"{region},{label},is {number} odd?,{number % 3}" for region, label, number in rows]
    table.write_text("\n".join(["region,label,question,who", *lines, "broken"]))
    fields = {"kind": "table", "path": str(table), "question": "{question}", "answer": "{label}", "region": "{region}"}
    source = TableSource.model_validate(fields | ({"annotator": "{who}"} if votes else {}))
    alone = {region: digest(source, region) for region in discover(source)}
    assert digests(source, alone, ANSWER, math.inf) == alone


def test_one_reading_gives_the_digests_of_packages_and_of_files_in_other_layouts() -> None:
    table = str(INPUTS / "image_qa" / "qa_letters.json")
    settings = {"kind": "image_qa", "path": table, "images": "images", "region_from_question": "(left|above)"}
    panels = str(INPUTS / "scored_images" / "panels.csv")
    for source in (
        ImageQaSource.model_validate(settings),
        ScoredImagesSource(kind="scored_images", path=panels),
        ElpvSource(kind="elpv"),
    ):
        alone = {region: digest(source, region) for region in discover(source)}
        assert digests(source, alone, ANSWER, math.inf) == alone


def test_a_reading_that_takes_too_long_gives_no_digests(tmp_path: Path) -> None:
    assert digests(scored(tmp_path, "a.png,0,r1\n"), ["r1"], ANSWER, -math.inf) is None
