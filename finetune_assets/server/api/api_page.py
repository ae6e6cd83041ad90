"""/docs: the description of the API as one page for people, without scripts and without anything from the network."""

from __future__ import annotations

from html import escape
from typing import Any

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h2 { margin-top: 2rem; border-bottom: 1px solid #ddd; }
details { margin: .4rem 0; } summary { cursor: pointer; }
code { background: #f3f3f3; padding: 0 .25rem; border-radius: 3px; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; }
td, th { text-align: left; vertical-align: top; border-top: 1px solid #eee; padding: .2rem .6rem .2rem 0; }
.method { display: inline-block; width: 4.5rem; font-weight: 600; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } code { background: #2a2a2a; }
  td, th, h2 { border-color: #333; } a { color: #8ab4f8; } }
"""


def render(description: dict[str, Any]) -> str:
    """Turn an OpenAPI description into HTML: endpoints by tag, then the objects they take and give."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation))
    endpoints = "".join(f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in by_tag.items())
    schemas = description["components"]["schemas"]
    objects = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    info = description["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])} Machines read <a href=/openapi.json>openapi.json</a>.</p>"
        f"{endpoints}<h2>Objects</h2>{objects}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    text = operation.get("description", "")
    rows = [
        _row(parameter["name"], parameter["schema"], f"in {parameter['in']}", parameter.get("required", False))
        for parameter in operation.get("parameters", [])
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(_row("body", content["schema"], kind, required=True))
    for kind, content in operation["responses"]["200"].get("content", {}).items():
        rows.append(_row("answer", content["schema"], kind, required=False))
    return (
        f"<details><summary><span class=method>{method}</span><code>{escape(path)}</code> "
        f"{escape(operation['summary'])}</summary><p>{escape(text)}</p>{_table(rows)}</details>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        _row(field, described, described.get("description", ""), field in required)
        for field, described in schema.get("properties", {}).items()
    ]
    head = f"<summary><code>{escape(name)}</code></summary><p>{escape(schema.get('description', ''))}</p>"
    return f"<details id='{escape(name)}'>{head}{_table(rows)}</details>"


def _table(rows: list[str]) -> str:
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _row(name: str, schema: dict[str, Any], text: str, required: bool) -> str:
    mark = " *" if required else ""
    return f"<tr><td><code>{escape(name)}</code>{mark}<td>{_type(schema)}<td>{escape(text)}"


def _type(schema: dict[str, Any]) -> str:
    """Say in a few words what a value may be, with links to objects."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(_type(choice) for choice in schema[key])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}{_bounds(schema)}"
    return escape(str(schema.get("type", "anything"))) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    names = (
        "minimum",
        "exclusiveMinimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "maxProperties",
    )
    found = [f"{name} {schema[name]:g}" for name in names if name in schema]
    return f" ({', '.join(found)})" if found else ""
