from __future__ import annotations

import pytest

from finetune_assets.errors import CaseError
from finetune_assets.evals.templates import fill, names_in

VALUES = {
    "item": {"text": "a {{b}}", "n": 3.0, "half": 0.5, "yes": True, "list": ["x"], "deep": {"er": "y"}, "no": None}
}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("Say {{item.text}}!", "Say a {{b}}!"),
        ("{{ item.n }} and {{-item.half-}}", "3 and 0.5"),
        ("{{item.yes}}", "true"),
        ("{{item.list.0}}{{item.deep.er}}", "xy"),
        ("{plain} {braces}", "{plain} {braces}"),
    ],
)
def test_names_are_filled_in_once(template: str, filled: str) -> None:
    assert fill(template, VALUES) == filled


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{item.text | upper}}", r"has '\{\{item.text \| upper\}\}', and only names are filled in"),
        ("{% for x in y %}", "only names are filled in"),
        ("{{ range(9) }}", "only names are filled in"),
        ("{{item.other}}", r"has nothing under item\.other"),
        ("{{item.no}}", r"has nothing under item\.no"),
        ("{{item.list.1}}", r"has nothing under item\.list\.1"),
        ("{{item.deep}}", "must be a text, a number or a boolean, found an object"),
        ("{{item.__class__}}", "has nothing under"),
    ],
)
def test_anything_else_is_refused_by_name(template: str, reason: str) -> None:
    with pytest.raises(CaseError, match=reason):
        fill(template, VALUES)


def test_names_are_listed_in_their_order() -> None:
    assert names_in("{{ b.c }} {{a}} {{ a | f }}") == ["b.c", "a"]
