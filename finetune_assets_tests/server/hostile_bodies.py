"""Bodies that keep to the limits of a route and are as bad as these allow, grown from the API's own description.

A body is first made as the description says. Then one place in it is swapped for something of which there is too much:
a text, a list, an object, a depth, a pattern, a picture.
"""

from __future__ import annotations

import base64
import io
import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from finetune_assets.server.api.body_shape import BodyLimits, limits_of

FORM = "multipart/form-data; boundary=b"
_DEEPEST = 6
_TEXTS = (
    "a",
    "é",
    "\u0000",
    "\U0001f600",
    '"\\',
    "<|im_end|>",
    "\n",
    " ",
    "a b",
    "json ",
    "{[",
    "\u202e",
    "0",
    "\ud7ff",
)
_WORDS = ("x", "", "-1", "tiny-text", "file-x", "ft:tiny-text:local::x", "../../etc/passwd", "\u0000", "é" * 60, "json")
_NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, 5e-324, 0.1, True, None)
_PATTERNS = ("(a|a)*b", "(a{1000}){1000}", "[" * 50, "(?<=a)b", r"\p{L}{900}", "(.*)*" * 20, "a" * 10_000)


@dataclass(frozen=True)
class Attack:
    """A request, and what is bad about it."""

    name: str
    method: str
    path: str
    content_type: str
    body: bytes = field(repr=False)


class Grammar:
    """Makes requests to every route of a description; the same of the same seed. `largest` caps a body, in bytes."""

    def __init__(self, described: dict[str, Any], seed: int, largest: int, known: dict[str, str]) -> None:
        self._schemas = described["components"]["schemas"]
        self._random = random.Random(seed)
        self._largest = largest
        self._known = known
        """Ids that exist, by the names under which they are asked for."""
        self.routes = [
            (method.upper(), path, operation)
            for path, methods in described["paths"].items()
            for method, operation in methods.items()
        ]
        # Where most can be said, most can go wrong.
        self.routes += [route for route in self.routes if "chat" in route[1]] * (len(self.routes) // 2)

    def attacks(self, n: int) -> Iterator[Attack]:
        """Attack routes at random."""
        for _ in range(n):
            method, path, operation = self._random.choice(self.routes)
            content = operation.get("requestBody", {}).get("content", {})
            address = self._address(path, operation)
            if "multipart/form-data" in content:
                name, body = self._form(content["multipart/form-data"]["schema"])
                yield Attack(name, method, address, FORM, body)
            elif "application/json" in content:
                name, body = self._json(content["application/json"]["schema"], limits_of(path))
                yield Attack(name, method, address, "application/json", body)
            else:
                yield Attack("no body", method, address, "application/json", b"")

    def _json(self, schema: dict[str, Any], limits: BodyLimits) -> tuple[str, bytes]:
        value = self.valid(schema)
        room = min(self._largest, limits.bytes) - len(json.dumps(value)) - 100
        name, monster = self._monster(room, limits)
        if self._random.random() < 0.1:
            return f"{name} alone", json.dumps(monster).encode()[: limits.bytes]
        place = self._random.choice(list(_places(value)))
        return f"{name} at {place}", json.dumps(_with(value, place, monster)).encode()

    def _form(self, schema: dict[str, Any]) -> tuple[str, bytes]:
        fields = self._resolved(schema).get("properties", {})
        name, text = self._random.choice(self._form_texts())
        spoilt = self._random.choice([*fields, "another", "expires_after[seconds]"])
        parts = []
        for key in dict.fromkeys([*fields, spoilt]):
            value = text if key == spoilt else b"fine-tune" if key == "purpose" else b"{}"
            file = b'; filename="a.jsonl"' if key in ("file", "data") else b""
            parts.append(
                b'--b\r\nContent-Disposition: form-data; name="' + key.encode() + b'"' + file + b"\r\n\r\n" + value
            )
        return f"{name} as {spoilt}", b"\r\n".join([*parts, b"--b--\r\n"])

    def _form_texts(self) -> list[tuple[str, bytes]]:
        size = self._largest - 1000
        return [
            ("boundaries", b"\r\n--" * (size // 4)),
            ("returns", b"\r" * size),
            ("many parts", b'\r\n--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' * (size // 60)),
            ("a long header", b"\r\n--b\r\nX: " + b"a" * size),
            ("short lines", b"x\n" * (size // 2)),
            ("brackets", b"[" * size),
            ("nulls", b"\0" * size),
        ]

    def _address(self, path: str, operation: dict[str, Any]) -> str:
        query = []
        for parameter in operation.get("parameters", []):
            name = parameter["name"]
            value = self._known.get(name) if self._random.random() < 0.7 else None
            value = value or self._random.choice(
                ["x", "%00", "é" * 500, "..%2f..%2fapi_key", "%ff", "9" * 400, "a" * 10_000]
            )
            if parameter["in"] == "path":
                path = path.replace("{" + name + "}", value)
            elif parameter["in"] == "query" and self._random.random() < 0.6:
                n = self._random.choice([1, 1, 2, 500])
                query += [
                    f"{name}[k{k}]={value[:20]}" if name == "metadata" else f"{name}={value[:20]}" for k in range(n)
                ]
        return path + ("?" + "&".join(query)[:5000] if query else "")

    def valid(self, schema: dict[str, Any], depth: int = 0) -> Any:
        """Make what the description allows, by and large."""
        schema = self._resolved(schema)
        choose = self._random.choice
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return choose(schema["enum"])
        for several in ("oneOf", "anyOf"):
            if several in schema:
                return self.valid(choose(schema[several]), depth)
        match schema.get("type", ""):
            case "object":
                needed = schema.get("required", [])
                few = depth > _DEEPEST
                return {
                    name: self._known.get(name) if name in self._known else self.valid(inner, depth + 1)
                    for name, inner in schema.get("properties", {}).items()
                    if name in needed or (not few and self._random.random() < 0.25)
                }
            case "array":
                return [self.valid(schema.get("items", {}), depth + 1) for _ in range(choose([1, 1, 2]))]
            case kind:
                least = schema.get("minimum", 0)
                plain = {"integer": max(least, 1), "number": least, "boolean": choose([True, False]), "null": None}
                return plain.get(kind, choose(["hello", "json", "Yes"]))

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def _monster(self, room: int, limits: BodyLimits) -> tuple[str, Any]:
        makers: list[Callable[[int, BodyLimits], tuple[str, Any]]] = [
            self._text, self._text, self._list, self._object, self._tower, self._word, self._schema, self._picture,
        ]  # fmt: skip
        return self._random.choice(makers)(max(room, 10), limits)

    def _text(self, room: int, _limits: BodyLimits) -> tuple[str, Any]:
        piece = self._random.choice(_TEXTS)
        size = self._random.choice([room, room // 7, 10_485_760, 4096, 5000])
        return f"{piece!r} * n", piece * (min(size, room) // len(json.dumps(piece)[1:-1]))

    def _list(self, room: int, limits: BodyLimits) -> tuple[str, Any]:
        item = self._random.choice(
            [0, {}, [], "x", None, {"type": "text", "text": "x"}, {"role": "user", "content": "x"}]
        )
        n = min(limits.values // (1 + 3 * isinstance(item, dict)) - 200, room // (len(json.dumps(item)) + 2))
        return f"n * {item}", [item] * self._random.choice([n, n // 20, 4097, 129])

    def _object(self, room: int, limits: BodyLimits) -> tuple[str, Any]:
        n = min(limits.members - 1, room // 40)
        return "members", {
            f"{self._random.choice(string.ascii_letters)}{k}": self._random.choice(_WORDS[:5]) for k in range(n)
        }

    def _tower(self, _room: int, limits: BodyLimits) -> tuple[str, Any]:
        value: Any = 0
        for _ in range(limits.depth - 8):
            value = [value] if self._random.random() < 0.5 else {"a": value}
        return "depth", value

    def _word(self, _room: int, _limits: BodyLimits) -> tuple[str, Any]:
        word = self._random.choice([*_WORDS, *_NUMBERS])
        return repr(word)[:20], word

    def _schema(self, room: int, limits: BodyLimits) -> tuple[str, Any]:
        n = min(limits.members - 10, room // 60)
        shapes: dict[str, Any] = {
            "pattern": {"type": "string", "pattern": self._random.choice(_PATTERNS)},
            "enum": {"enum": [f"value {k}" for k in range(min(limits.values // 2, room // 12))]},
            "properties": {"type": "object", "properties": {f"p{k}": {"type": "string"} for k in range(n)}},
            "any of any": {"anyOf": [{"anyOf": [{"type": "string", "maxLength": k} for k in range(30)]}] * 30},
            "long": {"type": "string", "minLength": 10**9},
            "many": {"type": "array", "items": {"type": "array", "minItems": 10**6}, "minItems": 10**6},
            "itself": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
            "elsewhere": {"$ref": "http://127.0.0.1:1/x"},
            "number": {"type": "number", "multipleOf": 1e-300, "minimum": 1e300},
        }
        name = self._random.choice(list(shapes))
        schema = {"type": "object", "properties": {"a": shapes[name]}, "required": ["a"]}
        return f"schema {name}", {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    def _picture(self, room: int, _limits: BodyLimits) -> tuple[str, Any]:
        kind = self._random.choice(["PNG", "GIF", "WEBP", "BMP"])
        side = self._random.choice([1, 64, 3000])
        buffer = io.BytesIO()
        more: dict[str, Any] = {
            "save_all": True,
            "append_images": [Image.new("L", (side, side), k % 255) for k in range(20)],
        }
        Image.new("L", (side, side)).save(buffer, kind, **(more if kind == "GIF" else {}))
        url = f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        part = {"type": "image_url", "image_url": {"url": url}}
        n = max(1, min(self._random.choice([1, 40, 500]), room // (len(url) + 60)))
        return f"{n} {kind} of {side}", [{"role": "user", "content": [part] * n}]


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Everything in a value that something else may be put into the place of."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if place:
        yield place
    for key, held in inner:
        yield from _places(held, (*place, key))
    if isinstance(value, dict):
        yield (*place, "another")


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The value with something else in one place."""
    if not place:
        return new
    key, *rest = place
    if isinstance(value, dict):
        return value | {key: _with(value.get(key), tuple(rest), new)}
    return [_with(held, tuple(rest), new) if k == key else held for k, held in enumerate(value)]
