import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.identity import region_name


@pytest.mark.parametrize(
    ("text", "name"),
    [("R2A", "r2a"), (" Left lung ", "left-lung"), ("R_1", "r_1"), ("Müller/Öl", "m-ller-l"), ("--", ""), (9, "9")],
)
def test_region_name_spells_a_region_as_tasks_do(text: object, name: str) -> None:
    assert region_name(text) == name


@given(st.text())
def test_a_region_name_is_empty_or_valid_in_a_task_and_stays_the_same(text: str) -> None:
    name = region_name(text)
    assert not name or re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name)
    assert region_name(name) == name
