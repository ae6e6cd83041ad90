"""What names a person, and what only looks like it."""

from __future__ import annotations

import pytest

from finetune_assets.dataset.personal_data import found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jane.doe+test@mail.example.co.uk, please.", "an e-mail address"),
        ("Call +49 30 901820 today", "a telephone number"),
        ("Call +1 (212) 555-0123.", "a telephone number"),
        ("(212) 555-0123", "a telephone number"),
        ("212-555-0123", "a telephone number"),
        ("Tel. 030/901 82-0", "a telephone number"),
        ("0041 44 668 18 00", "a telephone number"),
        ("Card 4111 1111 1111 1111.", "a card number"),
        ("5500-0055-5555-5559", "a card number"),
        ("378282246310005", "a card number"),
        ("IBAN DE89 3704 0044 0532 0130 00, thanks", "a bank account number"),
        ("GB82WEST12345698765432 AND MORE", "a bank account number"),
    ],
)
def test_personal_data_is_named_without_being_repeated(text: str, kind: str) -> None:
    assert found(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "Price is $1,234,567.89",
        "Built from 1939 to 1945, sold in 2003-2004",
        "Model 4111 1111 1111 1112 is no card: its checksum is wrong",
        "DE89 3704 0044 0532 0130 01 is no account",
        "Part FG0166-123456, 12V 55W, 8.5 x 11 x 2.25 inches",
        "The speed of light is 299792458 m/s and 6.02214076e23",
        "on 2024-01-31 at 12:30:59",
        "@home at 5",
        "ISBN 978-3-16-148410-0",
        "",
    ],
)
def test_prices_years_parts_and_wrong_checksums_pass(text: str) -> None:
    assert found(text) is None
