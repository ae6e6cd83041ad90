import base64
from pathlib import Path
from typing import Literal
from uuid import uuid4

import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.images import data_url, for_training, inspect, read_dated
from finetune_assets.dataset.sampling import DTYPES
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.errors import ImageError, TrainingFileError
from finetune_assets.task import Prompt
from finetune_assets.training_file.chat_format import to_messages
from finetune_assets.training_file.jsonl import JsonProblem, build, lines
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.dataset.pictures import picture, put

PROMPT = Prompt(system="You inspect cells.", user="{question} Answer Yes or No.")


def examples(folder: Path, n: int = 12, mode: str = "L", split: str = "train") -> pd.DataFrame:
    """Clean examples with `n` different images."""
    rows = []
    for k in range(n):
        data = picture("PNG", mode, shade=60 + k)
        path = put(folder / f"{k}.png", data)
        known = {"example_id": str(k), "split": split, "question": "Broken?", "answer": "Yes" if k % 2 else "No"}
        facts = inspect(data)
        seen = {"image_sha256": facts.sha256, "image_format": facts.format, "image_fit": facts.fit}
        rows.append({**dict.fromkeys(DTYPES), **known, "image": str(path), "image_bytes": len(data), **seen})
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def table(frame: pd.DataFrame) -> Table:
    """The examples as a table, in a place of its own."""
    return write_table(UPath(f"memory://examples/{uuid4()}.parquet"), frame)


def clean(folder: Path, n: int = 12, mode: str = "L", split: str = "train") -> Table:
    return table(examples(folder, n, mode, split))


def test_a_built_file_passes_validation(tmp_path: Path) -> None:
    built = build(clean(tmp_path), PROMPT, "train", tmp_path / "out" / "train.jsonl")
    report = validate(built.path)
    assert report.ok
    assert (report.files[0].n_examples, report.files[0].n_images, report.files[0].warnings) == (12, 12, [])


def test_the_built_file_is_counted(tmp_path: Path) -> None:
    built = build(clean(tmp_path), PROMPT, "train", tmp_path / "train.jsonl")
    assert (built.bytes, built.n_examples) == (len(built.path.read_bytes()), 12)


def test_identical_input_gives_identical_bytes(tmp_path: Path) -> None:
    frame = clean(tmp_path, n=70)
    first, second = (build(frame, PROMPT, "train", tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    assert first.path.read_bytes() == second.path.read_bytes()


def test_examples_keep_the_order_of_the_frame(tmp_path: Path) -> None:
    frame = examples(tmp_path, n=70)
    built = build(table(frame), PROMPT, "train", tmp_path / "train.jsonl")
    answers = [line["messages"][-1]["content"] for _, line in lines(built.path) if not isinstance(line, JsonProblem)]
    assert answers == frame["answer"].tolist()


def test_greyscale_images_are_inlined_as_rgb_and_fit_ones_untouched(tmp_path: Path) -> None:
    for mode in ("L", "RGB"):
        built = build(clean(tmp_path, 1, mode), PROMPT, "train", tmp_path / "train.jsonl")
        [_, asked, _] = orjson.loads(built.path.read_bytes())["messages"]
        head, payload = asked["content"][1]["image_url"]["url"].split(",")
        inlined = base64.b64decode(payload)
        assert (head, inspect(inlined).mode) == ("data:image/png;base64", "RGB")
        assert (inlined == picture("PNG", "RGB", shade=60)) == (mode == "RGB")


def test_only_the_rows_of_the_split_are_written(tmp_path: Path) -> None:
    sizes = {"train": 3, "validation": 5, "test": 2}
    frame = table(pd.concat([examples(tmp_path, n, split=split) for split, n in sizes.items()]))
    assert build(frame, PROMPT, "validation", tmp_path / "validation.jsonl").n_examples == 5
    assert build(frame, PROMPT, "calibration", tmp_path / "none.jsonl").bytes == 0


def test_text_examples_have_plain_content(tmp_path: Path) -> None:
    frame = examples(tmp_path, 1).assign(image=None, image_sha256=None).astype(DTYPES)
    built = build(table(frame), PROMPT, "train", tmp_path / "train.jsonl")
    assert orjson.loads(built.path.read_bytes())["messages"][1]["content"] == "Broken? Answer Yes or No."


def test_an_image_that_vanished_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    frame = clean(tmp_path / "images")
    built = build(frame, PROMPT, "train", tmp_path / "out" / "train.jsonl")
    before = built.path.read_bytes()
    (tmp_path / "images" / "7.png").unlink()
    with pytest.raises(ImageError, match=r"image_missing: there is no file '.*7\.png'"):
        build(frame, PROMPT, "train", built.path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.jsonl"]
    assert built.path.read_bytes() == before


def test_an_image_that_changed_since_it_was_sampled_is_refused(tmp_path: Path) -> None:
    frame = clean(tmp_path)
    put(tmp_path / "3.png", picture(shade=200))
    with pytest.raises(TrainingFileError, match=r"3\.png: the image of example '3' changed since it was sampled"):
        build(frame, PROMPT, "train", tmp_path / "train.jsonl")


def test_an_image_is_known_by_size_and_time_or_by_its_bytes(tmp_path: Path) -> None:
    frame = examples(tmp_path)
    frame["image_modified_ns"] = [read_dated(path)[1] for path in frame["image"]]
    expected = build(table(frame), PROMPT, "train", tmp_path / "train.jsonl").path.read_bytes()
    (tmp_path / "3.png").touch()
    assert build(table(frame), PROMPT, "train", tmp_path / "train.jsonl").path.read_bytes() == expected
    put(tmp_path / "3.png", picture("PNG", "L", shade=200))
    with pytest.raises(TrainingFileError, match="changed since it was sampled"):
        build(table(frame), PROMPT, "train", tmp_path / "train.jsonl")


def test_a_file_can_be_built_in_an_object_store_and_replaced_there(tmp_path: Path) -> None:
    frame, remote = clean(tmp_path), UPath("memory://built/train.jsonl")
    build(clean(tmp_path, 2), PROMPT, "train", remote)
    built = build(frame, PROMPT, "train", remote)
    assert remote.read_bytes() == build(frame, PROMPT, "train", tmp_path / "train.jsonl").path.read_bytes()
    assert [path.name for path in remote.parent.iterdir()] == ["train.jsonl"]
    assert len(remote.read_bytes()) == built.bytes


awkward = st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.sampled_from(["\ue000", '"', "\\u0000", "\n"])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(awkward, awkward, st.sampled_from([None, "", "Be brief."])), min_size=1, max_size=5))
def test_every_line_is_the_json_of_its_conversation(tmp_path: Path, asked: list[tuple[str, str, str | None]]) -> None:
    for pictured in (False, True):
        frame = examples(tmp_path, len(asked))
        frame[["question", "answer", "system"]] = pd.DataFrame(asked, dtype=object)
        if not pictured:
            frame = frame.assign(image=None)
        sampled = table(frame.astype(DTYPES))
        built = build(sampled, PROMPT, "train", tmp_path / "train.jsonl")
        urls = [for_training(Path(path).read_bytes()) for path in examples(tmp_path, len(asked))["image"]]
        graded = build(sampled, PROMPT, "train", tmp_path / "prompts.jsonl", graded=True)
        for (_, line), (_, prompt), (_, answer, _) in zip(lines(built.path), lines(graded.path), asked, strict=True):
            assert isinstance(line, dict)
            assert prompt == {"messages": line["messages"][:-1], "answer": answer}
        assert built.path.read_bytes() == b"".join(
            orjson.dumps(
                {"messages": to_messages(PROMPT, question, data_url(*url) if pictured else None, answer, system=system)}
            )
            + b"\n"
            for (question, answer, system), url in zip(asked, urls, strict=True)
        )


def test_rows_with_and_without_images_keep_their_order(tmp_path: Path) -> None:
    frame = examples(tmp_path, 6)
    frame.loc[[0, 3], "image"] = None
    frame["question"] = [f"Question {number}" for number in range(6)]
    built = build(table(frame), PROMPT, "train", tmp_path / "train.jsonl")
    asked = [orjson.loads(line)["messages"][1]["content"] for line in built.path.read_bytes().splitlines()]
    texts = [content if isinstance(content, str) else content[0]["text"] for content in asked]
    assert texts == [f"Question {number} Answer Yes or No." for number in range(6)]
    assert [isinstance(content, str) for content in asked] == [True, False, False, True, False, False]


def test_fit_and_other_images_keep_their_order(tmp_path: Path) -> None:
    frame = pd.concat([examples(tmp_path / mode, 9, mode) for mode in ("L", "RGB")]).iloc[::-2]
    frame["image_modified_ns"] = [read_dated(path)[1] for path in frame["image"]]
    built = build(table(frame), PROMPT, "train", tmp_path / "train.jsonl")
    asked = [orjson.loads(line)["messages"][1]["content"] for line in built.path.read_bytes().splitlines()]
    expected = [data_url(*for_training(Path(path).read_bytes())) for path in frame["image"]]
    assert [content[1]["image_url"]["url"] for content in asked] == expected


def test_the_number_of_threads_makes_no_difference(tmp_path: Path) -> None:
    frame = clean(tmp_path, n=70)
    built = [build(frame, PROMPT, "train", tmp_path / f"{n}.jsonl", threads=n).path.read_bytes() for n in (1, 2, 5)]
    assert built[0] == built[1] == built[2]


@pytest.mark.parametrize(
    ("detail", "side", "tokens"), [("low", 512, 85), ("high", 768, 85 + 4 * 170), ("auto", 768, 85 + 4 * 170)]
)
def test_images_are_as_large_as_the_prompt_s_detail_shows_and_cost_what_that_costs(
    detail: Literal["low", "high", "auto"], side: int, tokens: int, tmp_path: Path
) -> None:
    frame = examples(tmp_path, 1)
    data = picture("PNG", "L", (1024, 1024))
    put(tmp_path / "0.png", data)
    facts = inspect(data)
    frame["image_sha256"], frame["image_bytes"], frame["image_fit"] = facts.sha256, len(data), facts.fit
    totals = []
    for prompt in (Prompt(detail=detail), Prompt()):
        made = build(table(frame), prompt, "train", tmp_path / "made.jsonl")
        [(_, line)] = lines(made.path)
        assert isinstance(line, dict)
        url = line["messages"][0]["content"][1]["image_url"]["url"]
        totals.append((inspect(base64.b64decode(url.partition(",")[2])).width, validate(made.path).files[0]))
    assert [width for width, _ in totals] == [side, 512]
    assert totals[0][1].tokens_total - totals[1][1].tokens_total == tokens - 85
