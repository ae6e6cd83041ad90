from collections import Counter
from pathlib import Path

import orjson
import pytest

from finetune_assets.dataset import images
from finetune_assets.dataset.sources import generated
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.sources import GeneratedSource

ANSWER = BinaryAnswer(kind="binary")
RELATIONS = ("left", "right", "above", "below")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def source(count: int = 10, seed: int = 1) -> GeneratedSource:
    return GeneratedSource(kind="generated", what="markers", count=count, seed=seed)


@pytest.mark.parametrize("region", RELATIONS)
def test_half_of_the_answers_are_yes_and_every_image_is_another(region: str) -> None:
    found = list(generated.read(source(), region, ANSWER))
    assert Counter(example.answer for example in found) == {"Yes": 5, "No": 5}
    facts = [images.inspect(images.read(str(example.image))) for example in found]
    assert {(fact.width, fact.height, fact.mode) for fact in facts} == {(224, 224, "RGB")}
    assert len({fact.sha256 for fact in facts}) == 10


@pytest.mark.parametrize("region", RELATIONS)
def test_the_answers_follow_from_where_the_letters_are(region: str, tmp_path: Path) -> None:
    list(generated.read(source(), region, ANSWER))
    for entry in orjson.loads((tmp_path / f"var/data/markers-coloured-1-10/{region}/qa_letters.json").read_bytes()):
        [pair] = entry["question_answer"]
        axis = "x" if region in ("left", "right") else "y"
        first, second = pair[f"object1_center_{axis}"], pair[f"object2_center_{axis}"]
        assert pair["answer"] == (first < second if region in ("left", "above") else first > second)
        assert abs(first - second) >= 70
        assert pair["object1"] in pair["question"] and pair["object2"] in pair["question"]


def test_letters_are_drawn_where_the_table_says(tmp_path: Path) -> None:
    [example, *_] = generated.read(source(), "left", ANSWER)
    [entry, *_] = orjson.loads((tmp_path / "var/data/markers-coloured-1-10/left/qa_letters.json").read_bytes())
    [pair] = entry["question_answer"]
    picture = images.decode(images.read(str(example.image)))
    for name in ("object1", "object2"):
        x, y = pair[f"{name}_center_x"], pair[f"{name}_center_y"]
        colours = {colour for _, colour in picture.crop((x - 30, y - 20, x + 30, y + 20)).getcolors() or []}
        assert {(255, 0, 0) if name == "object1" else (0, 0, 255), (255, 255, 255)} <= colours


def test_everything_follows_from_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        made[folder] = [(e.question, images.read(str(e.image))) for e in generated.read(source(), "above", ANSWER)]
    assert made["one"] == made["two"]
    other = list(generated.read(source(seed=2), "above", ANSWER))
    assert [question for question, _ in made["one"]] != [example.question for example in other]


def test_what_is_drawn_is_kept(tmp_path: Path) -> None:
    list(generated.read(source(), "left", ANSWER))
    table = tmp_path / "var/data/markers-coloured-1-10/left/qa_letters.json"
    before = table.stat().st_mtime_ns
    list(generated.read(source(), "left", ANSWER))
    assert table.stat().st_mtime_ns == before


def test_a_relation_that_there_is_not_is_refused() -> None:
    with pytest.raises(SourceError, match="has the regions left, right, above, below, not behind"):
        generated.read(source(), "behind", ANSWER)
    assert sorted(generated.regions(source())) == sorted(RELATIONS)
