from typing import Any

import pytest

from finetune_assets.dataset.column_looks import profile
from finetune_assets.onboarding.columns import Part, candidates


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


@pytest.mark.parametrize(("part", "name"), [("region", "regiao"), ("region", "regione"), ("group", "numer seryjny")])
def test_names_without_their_accents_and_serial_numbers_are_known(part: Part, name: str) -> None:
    assert named(candidates(profile(rows(**{name: ["a", "a", "b", "b"]})), part)) == [name]


def test_a_likelier_word_within_a_name_goes_before_a_less_likely_whole_one() -> None:
    table = profile(rows(topic=["a", "b"] * 4, answerKey=["A", "B", "C", "D"] * 2))
    assert named(candidates(table, "answer"))[0] == "answerKey"


def test_a_column_of_one_value_is_no_answer() -> None:
    table = profile(rows(version=["1"] * 6, verdict=["ok", "nok"] * 3))
    assert named(candidates(table, "answer")) == ["verdict"]


def test_empty_cells_are_not_counted() -> None:
    [column] = profile([{"a": "x"}, {"a": None}, {"a": float("nan")}, {"a": " "}])
    assert (column.n, column.n_distinct) == (1, 1)


@pytest.mark.parametrize(
    ("question", "answer", "group", "region"),
    [
        ("\u8cea\u554f", "\u56de\u7b54", "\u60a3\u8005\u756a\u53f7", "\u90e8\u4f4d"),  # Japanese
        ("\u95ee\u9898", "\u7b54\u6848", "\u60a3\u8005\u7f16\u53f7", "\u5730\u533a"),  # Chinese
        ("\uc9c8\ubb38", "\uc815\ub2f5", "\ud658\uc790", "\ubd80\uc704"),  # Korean
        (
            "\u0412\u043e\u043f\u0440\u043e\u0441",
            "\u041e\u0442\u0432\u0435\u0442",
            "\u041f\u0430\u0446\u0438\u0435\u043d\u0442",
            "\u041e\u0431\u043b\u0430\u0441\u0442\u044c",
        ),
        ("Pregunta", "R\u00e9ponse", "Paciente", "K\u00f6rperregion Zone"),
        ("Pr\u00fcftext", "Urteil", "Charge", "Werk"),
        ("opini\u00f3n", "calificaci\u00f3n", "lote", "tienda"),
        ("Vraag", "Uitslag", "dossier_nr", "Afdeling"),
        ("domanda", "esito", "lottoId", "reparto"),
    ],
)
def test_columns_are_known_in_other_scripts(question: str, answer: str, group: str, region: str) -> None:
    cells = {question: ["is it 1?", "is it 2?"] * 4, answer: ["a", "b"] * 4, group: ["p", "p", "q", "q"] * 2}
    table = profile(rows(**cells, **{region: ["n", "s"] * 4}))
    assert named(candidates(table, "question")) == [question]
    assert candidates(table, "answer")[0].name == answer
    assert named(candidates(table, "group")) == [group]
    assert named(candidates(table, "region")) == [region]


def test_a_word_within_another_one_names_nothing() -> None:
    table = profile(
        rows(capacity=["1 l", "2 l"] * 4, charges=["a", "b"] * 4, network=["x", "y"] * 4, closed=["n", "y"] * 4)
    )
    assert candidates(table, "region") == candidates(table, "group") == []


def test_who_answered_is_known_by_the_name_of_the_column() -> None:
    table = profile(rows(inspector=["Anna", "Ben", "Cem"] * 4, verdict=["ok", "nok"] * 6))
    assert named(candidates(table, "annotator")) == ["inspector"]
