from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.reading.encoding import encoding_of
from finetune_assets.errors import SourceError
from finetune_assets_tests.dataset.reading.tables import read

WORDS = {
    "cp1252": [
        "Prüfung läuft, 20 °C",
        "déjà vu à l\u2019œil",
        "señor, ¿qué?",
        "São João",
        "à è ì ò ù",
        "Ångström blåbær",
        "5 €",
    ],
    "latin-1": ["Größe", "æble", "Straße 5 m²"],
}
FOREIGN = {
    "cp1251": ["да", "Проверка", "Я и ты"],
    "koi8-r": ["Проверка"],
    "cp1250": ["Łódź", "příliš žluťoučký", "tűzoltó őr", "żółw"],
    "cp1253": ["Ελλάδα"],
    "cp850": ["Prüfung", "naïve Fläche"],
    "mac-roman": ["Prüfung", "été"],
    "shift-jis": ["はい", "日本語"],
    "gb2312": ["是", "好的"],
    "cp1254": ["ağaç", "\u0131ş\u0131k"],
}


def encoding(path: Path, content: bytes, stated: str | None = None) -> str:
    path.write_bytes(content)
    return encoding_of(UPath(path), stated)


@pytest.mark.parametrize(("name", "word"), [(name, word) for name, words in WORDS.items() for word in words])
def test_letters_of_one_western_language_are_windows_1252(tmp_path: Path, name: str, word: str) -> None:
    assert encoding(tmp_path / "t.csv", f"a,b\n1,{word}\n".encode(name)) == "cp1252"


@pytest.mark.parametrize(("name", "word"), [(name, word) for name, words in FOREIGN.items() for word in words])
def test_what_may_be_another_encoding_is_set_aside_and_read_where_it_is_named(
    tmp_path: Path, name: str, word: str
) -> None:
    content = f"a;b\n1;{word}\n2;x\n".encode(name)
    (_, problem), (_, good) = read(tmp_path / "t.csv", content)
    assert isinstance(problem, str) and "source.dialect: {encoding:" in problem
    assert good == {"a": "2", "b": "x"}
    assert read(tmp_path / "t.csv", content, encoding=name)[0] == (2, {"a": "1", "b": word})


def test_one_line_of_utf8_decides_for_the_whole_file(tmp_path: Path) -> None:
    content = b"a,b\n" + b"1,%s\n" % (b"x" * 1000) * 1200 + b"2,caf\xe9\n3,caf\xc3\xa9\n"
    found = read(tmp_path / "t.csv", content)
    assert "the line is not UTF-8" in str(found[-2][1])
    assert found[-1] == (1203, {"a": "3", "b": "café"})


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_what_a_file_is(tmp_path: Path, name: str) -> None:
    assert read(tmp_path / "t.csv", "a;b\nä;ö\n".encode(name)) == [(2, {"a": "ä", "b": "ö"})]
    assert read(tmp_path / "t.jsonl", '{"a": "ä", "b": "ö"}\n'.encode(name))[0] == (1, {"a": "ä", "b": "ö"})


def test_utf16_without_a_mark_has_to_be_named(tmp_path: Path) -> None:
    content = "a;b\nä;ö\n".encode("utf-16-le")
    with pytest.raises(SourceError, match=r"looks like UTF-16; .*encoding: utf-16-le"):
        read(tmp_path / "t.csv", content)
    assert read(tmp_path / "t.csv", content, encoding="utf-16-le") == [(2, {"a": "ä", "b": "ö"})]


def test_a_line_that_is_not_of_the_named_encoding_is_set_aside(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", b"a,b\n1,\x81\n2,\xfc\n", encoding="cp1252")
    assert found == [(2, "the line is not cp1252"), (3, {"a": "2", "b": "ü"})]


def test_a_letter_that_was_lost_before_is_said(tmp_path: Path) -> None:
    [(_, problem)] = read(tmp_path / "t.csv", "a,b\n1,Gr\ufffde\n")
    assert "a letter that was lost" in str(problem)


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")).filter(str.isprintable), min_size=1, max_size=20))
def test_a_file_of_utf8_is_never_taken_for_anything_else(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    assert encoding(tmp_path_factory.mktemp("e") / "t.csv", text.encode()) == "utf-8-sig"
