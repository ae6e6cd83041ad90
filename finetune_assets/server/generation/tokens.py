"""The text of single tokens, which streams and OpenAI's log-probabilities are made of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


class TokenTexts:
    """The bytes and the text of each token of a vocabulary; looked up once and kept."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = {token for token, content in tokenizer.added_tokens_decoder.items() if content.special}
        self._special = added | set(tokenizer.all_special_ids)
        self._found: dict[int, tuple[str, bytes]] = {}

    def of(self, token: int) -> tuple[str, bytes]:
        """Text and UTF-8 bytes; a token may hold only a part of a character.

        A special token has a name, but adds no bytes to an answer. A token outside the vocabulary has neither.
        """
        if token not in self._found:
            self._found[token] = self._look_up(token)
        return self._found[token]

    def _look_up(self, token: int) -> tuple[str, bytes]:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return "", b""
        if token in self._special:
            return piece, b""
        data = _bytes_of(piece)
        return data.decode("utf-8", errors="replace"), data


def _bytes_of(piece: str) -> bytes:
    table = _byte_level_alphabet()
    if all(character in table for character in piece):
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
