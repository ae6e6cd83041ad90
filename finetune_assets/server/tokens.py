"""The bytes of single tokens, which OpenAI's log-probabilities report beside their text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """UTF-8 bytes of one token; a token may hold only a part of a character."""
    piece = tokenizer.convert_ids_to_tokens(token)
    if piece is None:
        return b""
    table = _byte_level_alphabet()
    if token not in tokenizer.all_special_ids and all(character in table for character in piece):
        return bytes(table[character] for character in piece)
    if len(piece) == 6 and piece.startswith("<0x"):  # SentencePiece's byte fallback
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


@lru_cache(maxsize=1)
def _byte_level_alphabet() -> dict[str, int]:
    """Which printable character stands for which byte in byte-level BPE (Radford et al. 2019).

    Printable Latin-1 bytes stand for themselves; the others follow from U+0100 on, in order.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
