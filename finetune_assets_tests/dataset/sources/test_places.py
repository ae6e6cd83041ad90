from pathlib import Path

import pytest
from upath import UPath

from finetune_assets.dataset.sources.places import locate, locate_all
from finetune_assets.errors import SourceError


def test_a_relative_path_is_looked_for_beside_the_yaml_file_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("yaml", "running"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "both.csv").touch()
    (tmp_path / "running" / "here.csv").touch()
    monkeypatch.chdir(tmp_path / "running")
    assert str(locate("both.csv", tmp_path / "yaml")) == str(tmp_path / "yaml/both.csv")
    assert str(locate("here.csv", tmp_path / "yaml")) == str(tmp_path / "running/here.csv")
    assert str(locate("both.csv", None)) == str(tmp_path / "running/both.csv")


def test_a_file_that_is_nowhere_is_refused_with_every_path_that_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as caught:
        locate("t.csv", tmp_path / "yaml")
    assert str(caught.value) == (f"t.csv: there is no file or folder at {tmp_path}/yaml/t.csv nor at {tmp_path}/t.csv")


def test_a_tilde_is_the_home_folder_and_an_absolute_path_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(locate("~/t.csv", Path("/elsewhere"))) == str(tmp_path / "t.csv")
    assert str(locate(str(tmp_path / "t.csv"), Path("/elsewhere"))) == str(tmp_path / "t.csv")


def test_any_fsspec_url_will_do() -> None:
    UPath("memory://places/t.csv").write_text("a")
    assert locate("memory://places/t.csv", Path("/elsewhere")).read_text() == "a"
    with pytest.raises(SourceError, match="no file or folder at memory://places/u.csv"):
        locate("memory://places/u.csv", None)
    with pytest.raises(SourceError, match="unheard://bucket/t.csv: cannot be looked for"):
        locate("unheard://bucket/t.csv", None)


def test_a_star_takes_all_files_whose_names_fit(tmp_path: Path) -> None:
    for name in ("qa_b.json", "qa_a.json", "other.json"):
        (tmp_path / name).touch()
    assert [path.name for path in locate_all("qa_*.json", tmp_path)] == ["qa_a.json", "qa_b.json"]
    assert locate_all("other.json", tmp_path) == [locate("other.json", tmp_path)]
    with pytest.raises(SourceError, match=rf"no file in {tmp_path} fits 'none_\*\.json'"):
        locate_all("none_*.json", tmp_path)
