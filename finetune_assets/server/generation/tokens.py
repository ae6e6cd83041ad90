"""The text of tokens: of an answer that grows, and of single tokens, which OpenAI's log-probabilities are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tokenizers.decoders import DecodeStream


class TextStream:
    """The text of one answer, as its tokens come; decoded by the tokenizer's own decoder.

    Args:
        tokenizer: of the model.
        lead: blank space that a chat template puts before every answer; it is none of it.
        signs: of the control tokens that are to be seen in the text; others are left out.
    """

    def __init__(self, tokenizer: Any, lead: str = "", signs: Mapping[int, str] | None = None) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._lead = lead
        self._signs = signs or {}
        self._held = ""
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._length = 0

    def add(self, token: int) -> str:
        """Whole characters that the token completes; a special token adds none but its sign."""
        if token in self._signs:
            return self._signs[token]
        self._ids.append(token)
        try:
            text = self._stream.step(self._backend, token) or ""
        except Exception:  # noqa: BLE001 - tokenizers raises nothing narrower
            text = self._decoded_anew()
        self._length += len(text)
        return self._after_lead(text)

    def rest(self) -> str:
        """What stands for a character that was broken off."""
        held, self._lead = self._held, ""
        return held + self._backend.decode(self._ids, skip_special_tokens=True)[self._length :]

    def _decoded_anew(self) -> str:
        """What is new where the text that was told is none any more.

        SentencePiece's bytes are characters together or not at all: one that is no beginning of a character makes
        replacement characters of those before it, too.
        """
        self._stream = DecodeStream(self._ids, skip_special_tokens=True)
        return self._backend.decode(self._ids, skip_special_tokens=True)[self._length :]

    def _after_lead(self, text: str) -> str:
        """Hold back what may be the lead, and drop it once it is."""
        if not self._lead:
            return text
        self._held += text
        if len(self._held) < len(self._lead) and self._lead.startswith(self._held):
            return ""
        text, self._held = self._held.removeprefix(self._lead), ""
        self._lead = ""
        return text


class TokenTexts:
    """The bytes and the text of each token of a vocabulary; looked up once and kept."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = {token for token, content in tokenizer.added_tokens_decoder.items() if content.special}
        self._special = added | set(tokenizer.all_special_ids)
        self._byte_level = "ByteLevel" in json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
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
        data = self._bytes_of(piece)
        return data.decode("utf-8", errors="replace"), data

    def _bytes_of(self, piece: str) -> bytes:
        if self._byte_level and piece not in self._tokenizer.added_tokens_encoder:
            table = _byte_level_alphabet()
            return bytes(table[character] for character in piece)
        return _sentencepiece_bytes(piece)


def _sentencepiece_bytes(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x"):  # a byte of a character that has no token
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
