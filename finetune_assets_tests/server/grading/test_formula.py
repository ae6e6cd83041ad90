"""The formula of a grader of several is arithmetic: computed as in mathematics, and nothing of it is run."""

from __future__ import annotations

import math

import pytest

from finetune_assets.errors import GraderError
from finetune_assets.server.grading.formula import Formula

REWARDS = {"name": 1.0, "email": 0.5, "x_2": -4.0}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("(name + email) / 2", 0.75),
        ("name - email - email", 0.0),
        ("8 / 4 / 2", 1.0),
        ("1 + 2 * 3", 7.0),
        ("2^3^2", 512.0),
        ("-2^2", -4.0),
        ("2^-1", 0.5),
        ("--name", 1.0),
        ("2*-email", -1.0),
        ("min(name, email, x_2) + max(name, email)", -3.0),
        ("abs(x_2) + floor(email) + ceil(email)", 5.0),
        ("exp(log(2)) * sqrt(4)", 4.0),
        (".5e1+1.", 6.0),
        ("+".join(["name"] * 800), 800.0),
    ],
)
def test_it_is_computed_as_in_mathematics(formula: str, value: float) -> None:
    assert Formula(formula, list(REWARDS)).value(REWARDS) == pytest.approx(value)


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("", "ends too early"),
        ("name +", "ends too early"),
        ("name email", "'email' in the formula is not understood"),
        ("name)", "is not understood"),
        ("(name", "ends too early"),
        ("phone", r"'phone' in the formula begins with no grader's name \(name, email, x_2\)"),
        ("sqrt", "no grader's name"),
        ("min(1)", "min takes several values"),
        ("floor(1, 2)", "floor takes one value"),
        ("__import__('os').abort()", "no grader's name"),
        ("name.__class__", "is not understood"),
        ("name[0]", "is not understood"),
        ("lambda: 1", "no grader's name"),
        ("name ** 2", "is not understood where a number"),
        ("(" * 200 + "1" + ")" * 200, "nested more than 30 levels"),
        ("^".join(["2"] * 200), "nested more than 30 levels"),
        ("1+" * 3000 + "1", "more than 4,096"),
    ],
)
def test_everything_else_is_refused_by_what_is_wrong(formula: str, told: str) -> None:
    with pytest.raises(GraderError, match=told):
        Formula(formula, list(REWARDS))


@pytest.mark.parametrize(
    "formula", ["1 / 0", "log(0)", "sqrt(x_2)", "x_2 ^ email", "9^9^9^9", "exp(1000)", "floor(9^300)^9"]
)
def test_what_has_no_finite_value_is_an_error_of_arithmetic_at_once(formula: str) -> None:
    with pytest.raises(ArithmeticError):
        Formula(formula, list(REWARDS)).value(REWARDS)


def test_the_value_is_a_float() -> None:
    assert math.copysign(1, Formula("floor(email)", list(REWARDS)).value(REWARDS)) == 1
