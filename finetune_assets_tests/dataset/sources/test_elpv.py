import sys
from pathlib import Path

import pytest

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import elpv
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.sources import ElpvSource


def cells(region: str) -> list[Example]:
    return list(elpv.read(ElpvSource(kind="elpv"), region, BinaryAnswer(kind="binary", positive="Yes", negative="No")))


def test_the_solar_cells_have_the_published_counts() -> None:
    """Counts by defect probability (0, 1/3, 2/3, 1) as published with the data set."""
    for region, counts in {"mono": (588, 117, 56, 313), "poly": (920, 178, 50, 402)}.items():
        thirds = [round(3 * (cell.score or 0)) for cell in cells(region)]
        assert tuple(thirds.count(third) for third in range(4)) == counts
        assert sum(cell.doubt is not None for cell in cells(region)) == counts[1] + counts[2]
        assert sum(cell.answer == "Yes" for cell in cells(region)) == counts[2] + counts[3]


def test_a_cell_names_its_image_line_and_doubt() -> None:
    by_id = {cell.id: cell for cell in cells("mono")}
    first = by_id["cell0001"]
    assert Path(str(first.image)).is_file()
    assert (first.line, first.score, first.answer, first.doubt) == (1, 1.0, "Yes", None)
    doubts = {cell.doubt for cell in by_id.values() if cell.answer == "No"}
    assert doubts == {None, "the experts' defect probability is 0.33"}


def test_an_unknown_module_type_has_no_cells() -> None:
    assert cells("thin-film") == []


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with pytest.raises(SourceError, match=r"pip install 'finetune_assets\[data\]'"):
        cells("mono")


def test_a_broken_line_of_labels_is_reported_in_every_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "elpv_dataset"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data" / "labels.csv").write_text("images/a.png  1.0  mono\nimages/b.png  high  mono\n")
    monkeypatch.syspath_prepend(tmp_path)
    for region, ids in {"mono": ["a", "labels.csv:2"], "poly": ["labels.csv:2"]}.items():
        found = cells(region)
        assert [cell.id for cell in found] == ids
        assert (found[-1].problem, found[-1].line) == ("malformed_line", 2)
