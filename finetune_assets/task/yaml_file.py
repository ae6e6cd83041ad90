"""Reads a YAML file as a person means it, and remembers on which line each key stands.

What YAML itself would silently take otherwise than it was meant is a fault: a key that is there twice, several
documents in one file. Files of strangers cannot hurt: sizes, depth and aliases have limits, and tags make no objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from finetune_assets.errors import TaskError, TaskFileError

MAX_BYTES = 1024 * 1024
MAX_VALUES = 10_000
"""Values with all aliases followed: a few lines of anchors can stand for billions."""
MAX_DEPTH = 40
_NULL = "tag:yaml.org,2002:null"
KeyPath = tuple[str | int, ...]
"""The keys and list places (from 0) that lead to a value."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in a YAML file."""

    line: int
    """From 1."""
    key: str
    """Of the value, such as `source.path`; "" is the whole file."""
    words: str
    """What was found and what to do, as one sentence."""


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What a YAML file says, and where."""

    value: Any
    faults: list[Fault] = field(default_factory=list)
    """What is wrong in it as YAML; what it says could be read all the same."""
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Line of each key and list entry, from 1."""
    words: dict[KeyPath, str] = field(default_factory=dict)
    """Each single value as it is written, without its quotes."""
    empty: dict[KeyPath, str] = field(default_factory=dict)
    """Each key behind which nothing stands, with the comment that does."""

    def fault(self, key: KeyPath, words: str) -> Fault:
        """Name something wrong at a key; the line is its own, or that of what should hold it."""
        known = next((key[:n] for n in range(len(key), 0, -1) if key[:n] in self.lines), None)
        return Fault(self.lines[known] if known else 1, dotted(key), words)


def dotted(key: KeyPath) -> str:
    """Write a key as people do: `regions[0]`, `source.path`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def refusal(path: Path, faults: list[Fault]) -> TaskFileError:
    """Return the error of a file with faults, a line for each in the order of the file: `path:line: key: words`."""
    return TaskFileError(
        [f"{path}:{one.line}: {one.key + ': ' if one.key else ''}{one.words}" for one in sorted(set(faults))]
    )


def read(path: Path, max_values: int = MAX_VALUES) -> YamlFile:
    """Read a file with at most so many values, aliases followed.

    Raises:
        TaskError: it cannot be read, or is no YAML; the message names the line.
    """
    written = _text(path)
    try:
        _require_small(written)
        return _read(path, _Loader(written), max_values)
    except yaml.MarkedYAMLError as error:
        raise refusal(path, [explained(error, written.splitlines())]) from error
    except yaml.reader.ReaderError as error:
        line = written[: error.position].count("\n") + 1
        words = f"the character number {error.character:#x} cannot be in a YAML file; take it out"
        raise refusal(path, [Fault(line, "", words)]) from error


def _read(path: Path, loader: _Loader, max_values: int) -> YamlFile:
    nodes = []
    while loader.check_node():
        nodes.append(loader.get_node())
    nodes = [node for node in nodes if not (node.tag == _NULL and node.value in ("", "~"))]
    if len(nodes) != 1:
        found = f"the file holds {len(nodes)} documents" if nodes else "the file is empty"
        line = nodes[1].start_mark.line + 1 if nodes else 1
        advice = "one file is one task: take out the `---` between them" if nodes else "README shows what a task says"
        raise refusal(path, [Fault(line, "", f"{found}; {advice}")])
    reader = _Reader(loader, max_values)
    return YamlFile(reader.value(nodes[0], (), ()), reader.faults, reader.lines, reader.words, reader.empty)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(found) > MAX_BYTES:
        raise TaskError(f"{path}: has over {MAX_BYTES:,} bytes; a task is a short text, and its data lies beside it")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        words = f"is not UTF-8 (byte {found[error.start]:#04x}); save the file as UTF-8"
        raise refusal(path, [Fault(line, "", words)]) from error


class _Loader(yaml.SafeLoader):
    """YAML's simple values without its dates, which nobody computes with."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _require_small(written: str) -> None:
    """Refuse what is nested so deeply that composing it would exhaust the stack."""
    depth = 0
    for event in yaml.parse(written, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested over {MAX_DEPTH} deep", problem_mark=event.start_mark)


_IN_CURLY_QUOTES = re.compile(
    "[\u201c\u201d\u201e\u201f\u2018\u2019\u201a][^\u201c-\u201f\u2018-\u201b]*[\u201c\u201d\u2018\u2019]"
)


class _Reader:
    """Makes values of YAML's nodes and notes where they stand."""

    def __init__(self, loader: _Loader, max_values: int) -> None:
        self._loader = loader
        self._max_values = max_values
        self._n_values = 0
        self.faults: list[Fault] = []
        self.lines: dict[KeyPath, int] = {}
        self.words: dict[KeyPath, str] = {}
        self.empty: dict[KeyPath, str] = {}

    def value(self, node: yaml.Node, key: KeyPath, above: tuple[int, ...]) -> Any:
        """Return the value of a node, which stands inside of the nodes `above` (their ids)."""
        self._n_values += 1
        if id(node) in above or self._n_values > self._max_values:
            many = f"over {self._max_values:,} values"
            what = "an alias stands inside of what it names" if id(node) in above else many
            raise yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return {name: self.value(child, (*key, name), above) for name, child in self._pairs(node, key)}
        if isinstance(node, yaml.SequenceNode):
            self._require_plain(node, "seq")
            self.lines |= {(*key, place): child.start_mark.line + 1 for place, child in enumerate(node.value)}
            return [self.value(child, (*key, place), above) for place, child in enumerate(node.value)]
        self.words[key] = node.value
        if node.tag == _NULL and not node.value:
            rest = str(node.start_mark.buffer)[node.start_mark.pointer :].partition("\n")[0]
            self.empty[key] = rest.strip("\0 ") if rest.lstrip().startswith("#") else ""
        if isinstance(node, yaml.ScalarNode) and node.style is None and _IN_CURLY_QUOTES.fullmatch(node.value):
            words = f'stands in typographic quotes, which belong to the value then; write "{node.value[1:-1]}"'
            self.faults.append(Fault(node.start_mark.line + 1, dotted(key), words))
        return self._loader.construct_object(node)

    def _pairs(self, node: yaml.MappingNode, key: KeyPath) -> list[tuple[str, yaml.Node]]:
        self._require_plain(node, "map")
        first: dict[str, int] = {}
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is no single word", problem_mark=name.start_mark)
            line = name.start_mark.line + 1
            if name.tag == "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem="merging by <<", problem_mark=name.start_mark)
            if name.value in first:
                words = f"is there twice, first in line {first[name.value]}; take one of them out"
                self.faults.append(Fault(line, dotted((*key, name.value)), words))
            first.setdefault(name.value, line)
            self.lines[*key, name.value] = line
        return [(name.value, child) for name, child in node.value]

    def _require_plain(self, node: yaml.Node, kind: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            raise yaml.MarkedYAMLError(problem=f"the tag {node.tag}", problem_mark=node.start_mark)


_EXPLANATIONS = [
    (r"character '\\t'", "a tab; indent with spaces"),
    (r"character '(.)' that cannot start", "a value cannot begin with {0}; put the whole value in quotes"),
    (r"mapping values are not allowed", "a colon where no key can stand: if it belongs to a value put that in quotes, "
     "else look at the indentation, for a missing blank after a colon, and for a missing colon in the line above"),
    (r"could not find expected ':'", "a key without its colon; write `key: value`, with a blank after the colon"),
    (r"expected <block end>, but found '<(?:block mapping start|block sequence start|block entry|\?)>'",
     "the line is indented otherwise than its neighbours; give keys of one level the same number of blanks"),
    (r"expected <block end>, but found '<(?:scalar|alias)>'",
     "something follows a closing quote or bracket; put the whole value in (other) quotes"),
    (r"expected ',' or '[\]}]'", "a bracket is not closed, or an entry lacks its comma"),
    (r"expected the node content", "a bracket or a quote is not closed, or a value is missing"),
    (r"unexpected end of stream", "a quote is opened and never closed"),
    (r"found unexpected document separator|unexpected ':'|did not find expected", "the line cannot be read"),
    (r"undefined alias|alphabetic or numeric character", "a value that begins with * or & must be in quotes"),
    (r"duplicate anchor", "an anchor of this name is there twice; take one of them out"),
    (r"constructor for the tag '(.+)'", "the tag {0} is not taken; write the plain value"),
    (r"^the tag (.+)$", "the tag {0} is not taken; write the plain value"),
    (r"merging by <<", "`<<` is not taken; write its keys out"),
    (r"alias stands inside", "an alias stands inside of what it names; write the value out"),
    (r"over ([\d,]+) values", "the aliases of the file stand for over {0} values; write out what is meant"),
    (r"nested over (\d+) deep", "the values are nested over {0} deep; a task is flat"),
    (r"no single word", "a key must be a single word; put a value that begins with { or [ in quotes"),
    (r"unknown escape character '(.)'", "\\{0} means nothing inside of double quotes; use single quotes"),
]  # fmt: skip
"""What a YAML library says, and what it means to whoever wrote the file."""


def explained(error: yaml.MarkedYAMLError, lines: list[str]) -> Fault:
    """Say in plain words where a text is no YAML, and what to do about it."""
    said = error.problem or "it cannot be read"
    mark = error.problem_mark or error.context_mark
    opened = error.context_mark
    if opened and re.search("expected ',' or|end of stream", said):
        mark = opened
    line = min(mark.line + 1, max(len(lines), 1)) if mark else 1
    found = lines[line - 1].strip()[:60] if lines else ""
    said_before = [at for at, text in enumerate(lines[:line], 1) if text.strip() and not text.startswith("#")]
    if second := [at for at in said_before[1:] if lines[at - 1].rstrip() == "---"]:
        return Fault(second[0], "", "`---` begins a second document; one file is one task: take the line out")
    for pattern, words in _EXPLANATIONS:
        if match := re.search(pattern, said):
            return Fault(line, "", f"{words.replace('{0}', next(iter(match.groups()), '') or '')}, found {found!r}")
    return Fault(line, "", f"no YAML ({said}), found {found!r}")
