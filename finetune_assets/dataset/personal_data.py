"""Finds what names a person in a text: e-mail addresses, and telephone, card and account numbers.

Card and account numbers count only with a valid checksum, and telephone numbers only where they are written as such
(`+49 30 1234567`, `(212) 555-0123`, `030/123 45 67`), so that prices, years and part numbers pass.
"""

from __future__ import annotations

import re

_EMAIL = re.compile(r"[\w.+%-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b")
_CARD = re.compile(r"(?<![\w.,])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w])")
_CARD_NUMBER = re.compile(  # Visa, Mastercard, American Express, Diners, Discover
    r"4\d{12}(?:\d{3})?|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d)\d{12}"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_FEWEST_DIGITS = 7
_PHONE = re.compile(
    r"(?<![\w+.,])(?<!\d[ -])(?:"
    r"(?:\+|00)[1-9]\d{0,2}[ ./-]?(?:\(0?\d{1,4}\)|\d)[\d ./-]{5,14}\d"
    r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}"
    r"|0\d{2,4}[/ -]\d{2,4}(?:[ -]?\d{2,4}){1,3}"
    r")(?!\w)"
)


def found(text: str) -> str | None:
    """Name what a text holds (`an e-mail address`), without repeating it; None where it holds nothing."""
    if "@" in text and _EMAIL.search(text):
        return "an e-mail address"
    if sum(map(text.count, "0123456789")) < _FEWEST_DIGITS:
        return None
    if any(_is_card(match[0]) for match in _CARD.finditer(text)):
        return "a card number"
    if any(_is_iban(match[0]) for match in _IBAN.finditer(text)):
        return "a bank account number"
    if any(_is_phone(match[0]) for match in _PHONE.finditer(text)):
        return "a telephone number"
    return None


def _is_card(written: str) -> bool:
    """Whether the digits are those of a card and pass the Luhn test (ISO/IEC 7812-1)."""
    number = re.sub(r"\D", "", written)
    digits = [int(digit) for digit in reversed(number)]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return bool(_CARD_NUMBER.fullmatch(number)) and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(written: str) -> bool:
    """Whether the number passes the test of ISO 7064 (mod 97-10); text that follows it may look like a part of it."""
    compact = written.replace(" ", "")
    for length in range(len(compact), 14, -1):
        moved = compact[4:length] + compact[:4]
        if int("".join(str(int(character, 36)) for character in moved)) % 97 == 1:
            return True
    return False


def _is_phone(written: str) -> bool:
    return 7 <= sum(character.isdigit() for character in written) <= 15
