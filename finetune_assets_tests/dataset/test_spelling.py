import unicodedata
from pathlib import Path

import pytest

from finetune_assets.dataset.spelling import as_on_disk, hint

COMPOSED = unicodedata.normalize("NFC", "Rückläufer/Größe 1.png")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def made(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("bilder/a.png", "bilder\\a.png"),
        ("bilder/neu/a.png", ".\\bilder\\neu\\a.png"),
        (DECOMPOSED, COMPOSED),
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED.replace("/", "\\")),
        ("a.png", " a.png "),
        ("a .png ", "a .png"),
        ("my file.png", "my%20file.png"),
        ("Größe.png", "Gr%C3%B6%C3%9Fe.png"),
        ("my files/a.png", "my%20files\\a.png"),
    ],
)
def test_a_file_is_found_as_other_systems_spell_it(tmp_path: Path, on_disk: str, written: str) -> None:
    path = made(tmp_path, on_disk)
    assert Path(as_on_disk(tmp_path, written)).samefile(path)


@pytest.mark.parametrize("name", ["a\\b.png", "a%20b.png", " a.png", COMPOSED])
def test_the_file_of_just_that_name_comes_first(tmp_path: Path, name: str) -> None:
    for other in ("a/b.png", "a b.png", "a.png", DECOMPOSED):
        made(tmp_path, other)
    path = made(tmp_path, name)
    assert as_on_disk(tmp_path, name) == str(path)


def test_an_absolute_path_is_found_in_the_same_way(tmp_path: Path) -> None:
    path = made(tmp_path, DECOMPOSED)
    assert as_on_disk(Path("/elsewhere"), str(tmp_path / COMPOSED)) == str(path)


def test_where_two_files_fit_none_is_taken(tmp_path: Path) -> None:
    for name in ("ä.png ", "a\u0308.png"):
        made(tmp_path, name)
    assert as_on_disk(tmp_path, " ä.png  ") == str(tmp_path / " ä.png  ")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("bilder/ZELLE_1.png", "; did you mean 'Zelle_1.png'? Write it as the file is called"),
        ("Bilder/Zelle_1.png", "; did you mean 'bilder'? Write it as the file is called"),
        ("bilder/Zele_1.png", "; did you mean 'Zelle_1.png'? Write it as the file is called"),
        ("C:\\data\\Zelle_1.png", "; C: is a drive of Windows: write the path relative to the table"),
        ("d:/data/Zelle_1.png", "; d: is a drive of Windows"),
        ("photos/x/a.png", "has no folder 'photos'"),
        ("bilder/something_else.jpg", ""),
        ("x" * 300, ""),
    ],
)
def test_the_name_of_a_missing_file_is_told_from_what_is_there(tmp_path: Path, written: str, said: str) -> None:
    made(tmp_path, "bilder/Zelle_1.png")
    path = as_on_disk(tmp_path, written)
    assert path == str(tmp_path / written)
    assert said in hint(path)
    assert bool(said) == bool(hint(path))
