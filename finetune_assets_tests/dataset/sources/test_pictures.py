import base64
from pathlib import Path

import pytest
from upath import UPath

from finetune_assets.dataset.sources.pictures import named_folders, picture, written_name
from finetune_assets.errors import ImageError
from finetune_assets_tests.dataset.pictures import picture as image_bytes
from finetune_assets_tests.dataset.pictures import put


@pytest.fixture
def folder(tmp_path: Path) -> UPath:
    """A table's folder with an image, beside another folder with images."""
    put(tmp_path / "table" / "in" / "a.png", b"")
    put(tmp_path / "elsewhere" / "b.png", b"")
    return UPath(tmp_path / "table")


def refused(written: object, folder: UPath, roots: tuple[str, ...] = ()) -> str:
    with pytest.raises(ImageError) as refusal:
        picture(written, folder, roots)
    return refusal.value.reason


def test_paths_in_the_table_s_folder_and_addresses_elsewhere_are_taken(folder: UPath) -> None:
    assert picture("in/a.png", folder) == picture(f"{folder}/in/a.png", folder) == f"{folder}/in/a.png"
    assert picture(f"file://{folder}/in/a.png", folder) == f"{folder}/in/a.png"
    for url in ("https://e.org/A.png?b=1", "s3://bucket/B.png", "gs://bucket/c.png", "az://container/d.png"):
        assert picture(url, folder) == url
    assert picture("HTTPS://E.org/a.png", folder) == "https://E.org/a.png"


@pytest.mark.parametrize(
    "written",
    ["../elsewhere/b.png", "in/../../elsewhere/b.png", "/etc/hostname", "file:///etc/hostname", "..", "in/..", "/",
     "file://localhost/etc/hostname", "\\etc\\hostname/../../../../../x", "..\\elsewhere\\b.png"],
)  # fmt: skip
def test_no_path_leads_out_of_the_table_s_folder(folder: UPath, written: str) -> None:
    assert refused(written, folder) == "image_outside"


def test_no_symbolic_link_leads_out_either(folder: UPath, tmp_path: Path) -> None:
    (tmp_path / "table" / "link.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "table" / "linked").symlink_to(tmp_path / "elsewhere")
    assert refused("link.png", folder) == refused("linked/b.png", folder) == "image_outside"
    (tmp_path / "table" / "same.png").symlink_to(tmp_path / "table" / "in" / "a.png")
    assert picture("same.png", folder) == f"{folder}/same.png"


def test_a_folder_that_the_task_names_may_be_read(folder: UPath, tmp_path: Path) -> None:
    for root in ("../elsewhere", str(tmp_path / "elsewhere"), str(tmp_path)):
        assert picture("../elsewhere/b.png", folder, (root,)) == f"{folder}/../elsewhere/b.png"
        assert picture(f"{tmp_path}/elsewhere/b.png", folder, (root,)) == f"{tmp_path}/elsewhere/b.png"
    assert refused("../elsewhere/../c.png", folder, ("../elsewhere",)) == "image_outside"


def test_a_task_names_folders_by_its_image_and_by_its_root() -> None:
    assert named_folders("../images/{file}", None) == ("../images",)
    assert named_folders("{file}", "/data") == ("/data",)
    assert named_folders(None, None, "../b") == ("../b",)


@pytest.mark.parametrize(
    "written",
    ["http://127.0.0.1/a.png", "ftp://e.org/a.png", "simplecache::http://127.0.0.1/a.png", "memory://a.png", "zip://a::b",
     "filecache::s3://bucket/a.png", "sftp://host/a.png", "hf://datasets/a/b.png"],
)  # fmt: skip
def test_other_schemes_and_chains_of_them_are_not_read(folder: UPath, written: str) -> None:
    assert refused(written, folder) == "image_unreachable"


@pytest.mark.parametrize("written", ["in/a.png\0/../../b.png", "file://[/in/a.png", "FILE://x]/a.png"])
def test_what_is_no_path_is_refused_as_that_of_one_row(folder: UPath, written: str) -> None:
    assert refused(written, folder) == "image_unreadable"


def test_a_table_in_an_object_store_has_its_images_beside_it() -> None:
    there = UPath("memory://bucket/labels")
    assert picture("in/a.png", there) == "memory://bucket/labels/in/a.png"
    assert picture("memory://bucket/labels/a.png", there) == "memory://bucket/labels/a.png"
    assert refused("../private/a.png", there) == "image_outside"
    assert refused("memory://bucket/labels/../private/a.png", there) == "image_unreachable"


def test_backslashes_are_folders_and_umlauts_are_found_however_the_disk_spells_them(tmp_path: Path) -> None:
    put(tmp_path / "in" / "Gef\u0061\u0308\u00df.png", b"")
    assert picture("in\\Gef\u00e4\u00df.png", UPath(tmp_path)) == f"{tmp_path}/in/Gef\u0061\u0308\u00df.png"


def test_a_data_url_is_its_bytes(folder: UPath) -> None:
    encoded = base64.b64encode(image_bytes()).decode()
    for written in (f"data:image/png;base64,{encoded}", f"DATA:image/png;BASE64,{encoded[:40]}\n{encoded[40:]}"):
        assert picture(written, folder) == image_bytes()
        assert written_name(written) == ""
    for broken in ("data:image/png,raw", "data:image/png;base64,%%%", "data:", "data:text/html;base64,AAAA"):
        assert refused(broken, folder) == "image_unreadable"


def test_base64_without_its_beginning_is_told_from_a_path_and_cut(folder: UPath) -> None:
    with pytest.raises(ImageError) as caught:
        picture(base64.b64encode(bytes(90_000)).decode(), folder)
    assert caught.value.reason == "image_unreadable" and len(caught.value.detail) < 250
    assert "write data:image/png;base64, before it" in caught.value.detail
