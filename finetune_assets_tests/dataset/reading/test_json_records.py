import json
from pathlib import Path

import pytest

from finetune_assets.errors import SourceError
from finetune_assets_tests.dataset.reading.tables import read

ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
NUMBERED = [(1, ROWS[0]), (2, ROWS[1])]


def test_a_json_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert read(tmp_path / "t.json", b'\xef\xbb\xbf[{"a": 1}]', needed=("a",)) == [(1, {"a": 1})]


def test_an_entry_that_is_no_object_hides_no_other(tmp_path: Path) -> None:
    assert read(tmp_path / "t.json", '[1, {"a": 2, "b": 3}]') == [
        (1, "entry 1 must be an object, found a number (1)"),
        (2, {"a": 2, "b": 3}),
    ]
    with pytest.raises(SourceError, match=r"t\.json: line 1, column 2"):
        read(tmp_path / "t.json", "[")


def test_the_only_list_of_objects_in_an_object_is_the_table(tmp_path: Path) -> None:
    content = json.dumps({"version": 2, "classes": ["x", "y"], "items": ROWS, "errors": []})
    assert read(tmp_path / "t.json", content) == NUMBERED


def test_of_several_lists_the_yaml_names_one(tmp_path: Path) -> None:
    content = json.dumps({"train": ROWS, "test": ROWS[:1], "more": {"rows": ROWS[1:]}})
    with pytest.raises(
        SourceError, match="several lists of records, 'train' and 'test'; name the list with `source.dialect"
    ):
        read(tmp_path / "t.json", content)
    assert read(tmp_path / "t.json", content, records="train") == NUMBERED
    assert read(tmp_path / "t.json", content, records="more.rows") == [(1, ROWS[1])]
    with pytest.raises(SourceError, match="dialect.records: val must be a list, found null with the keys train, test"):
        read(tmp_path / "t.json", content, records="val")


@pytest.mark.parametrize("content", ['{"a": {"0": 1}, "b": {"0": "x"}}', '{"a": [1, 2], "b": ["x", "y"]}'])
def test_an_object_without_a_list_of_objects_is_refused_with_its_keys(tmp_path: Path, content: str) -> None:
    with pytest.raises(SourceError, match="must be a list of entries, found an object with the keys a, b; name the"):
        read(tmp_path / "t.json", content)


def test_a_list_that_calls_itself_json_lines_is_read_as_the_list_it_is(tmp_path: Path) -> None:
    assert read(tmp_path / "t.jsonl", json.dumps(ROWS, indent=2)) == NUMBERED


def test_objects_over_several_lines_are_refused_once_with_the_remedy(tmp_path: Path) -> None:
    content = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    with pytest.raises(
        SourceError, match=r"t\.jsonl: the first object is written over 4 lines; write one object a line"
    ):
        read(tmp_path / "t.jsonl", content)


def test_a_broken_line_hides_no_other(tmp_path: Path) -> None:
    (_, broken), second, (_, no_object) = read(tmp_path / "t.jsonl", '{"a": 1, "b"\n\n{"a": 2, "b": "y"}\n[1]\n')
    assert isinstance(broken, str) and isinstance(no_object, str)
    assert second == (3, ROWS[1])


def test_a_key_that_none_of_the_first_records_has_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"lacks the columns label; it has image, lable\. Did you mean 'lable'\?"):
        read(tmp_path / "t.jsonl", '{"image": 1, "lable": 2}\n' * 3, needed=("label",))
    with pytest.raises(
        SourceError, match=r"qa\.answer: the objects lack answer; it has question, anwser\. Did you mean"
    ):
        read(tmp_path / "t.json", '[{"qa": {"question": 1, "anwser": 2}}]', needed=("qa.answer",))


def test_a_key_that_a_late_record_has_first_is_there(tmp_path: Path) -> None:
    content = '{"a": 1}\n' * 999 + '{"b": 2}\n'
    assert len(read(tmp_path / "t.jsonl", content)) == 1000


def test_a_key_with_blanks_around_it_is_the_same_key(tmp_path: Path) -> None:
    assert read(tmp_path / "t.json", '[{" a": 1, "b\\u00a0": "x"}]') == NUMBERED[:1]


def test_a_key_that_stands_twice_in_an_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"a": "yes", "a": "no"}]')
    with pytest.raises(SourceError, match=r"t\.json: the key 'a' stands twice in one object"):
        read(tmp_path / "t.json", needed=["a"])


def test_a_coco_file_is_known_by_its_lists(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"images": [{"a": 1}], "annotations": [{"b": 1}], "categories": [{"c": 1}]}')
    with pytest.raises(SourceError, match="this is a COCO file: write `kind: coco`"):
        read(tmp_path / "t.json", needed=["a"])
