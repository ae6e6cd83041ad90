from typing import Any

from finetune_assets.onboarding.columns import candidates, profile


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def named(found: list[Any]) -> list[str]:
    return [column.name for column in found]


def test_an_image_column_is_known_by_what_it_holds() -> None:
    table = profile(
        rows(bild=["a.png", "b.PNG", "c.jpeg"], label=["x", "y", "x"], note=["see a.png", "broken", "fine"])
    )
    assert named(candidates(table, "image")) == ["bild"]


def test_images_inside_a_table_are_images() -> None:
    table = profile([{"image": {"bytes": b"\x89PNG", "path": None}, "label": n % 2} for n in range(4)])
    assert named(candidates(table, "image")) == ["image"]


def test_the_parts_of_an_object_are_columns() -> None:
    table = profile([{"data": {"image": "a.png", "meta": {"site": "x"}}, "label": "y"}])
    assert named(table) == ["data.image", "data.meta.site", "label"]


def test_columns_are_known_by_their_names_in_several_languages() -> None:
    table = profile(
        rows(
            Frage=["Was kostet das Rad?", "Was kostet der Ball?"] * 4,
            Antwort=["teuer", "billig"] * 4,
            Patient=["p1", "p1", "p2", "p2"] * 2,
            Standort=["nord", "sued"] * 4,
        )
    )
    assert named(candidates(table, "question")) == ["Frage"]
    assert candidates(table, "answer")[0].name == "Antwort"
    assert named(candidates(table, "group")) == ["Patient"]
    assert named(candidates(table, "region")) == ["Standort"]


def test_a_published_split_is_known_by_its_values() -> None:
    table = profile(rows(usage=["train", "val", "test", "train"], text=["a b c d", "b", "c", "d"]))
    assert named(candidates(table, "split")) == ["usage"]


def test_a_column_of_one_value_is_no_answer() -> None:
    table = profile(rows(version=["1"] * 6, verdict=["ok", "nok"] * 3))
    assert named(candidates(table, "answer")) == ["verdict"]


def test_empty_cells_are_not_counted() -> None:
    [column] = profile([{"a": "x"}, {"a": None}, {"a": float("nan")}, {"a": " "}])
    assert (column.n, column.n_distinct) == (1, 1)
