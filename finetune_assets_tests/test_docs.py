"""The documentation and the README say what is so: samples run, commands exist, and nothing is left unexplained."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

import finetune_assets
from finetune_assets.cli import app
from finetune_assets.task import Task

ROOT = Path(__file__).parent.parent
PACKAGE = Path(finetune_assets.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "data").rglob("*.md"))]
VARIABLE = re.compile(r"(?:FINETUNE_ASSETS|OPENAI|AZURE|WANDB|VLLM|DAGSTER)_(?!PORT)[A-Z_]*[A-Z]")

READ_BY_THE_SDK = {"OPENAI_BASE_URL"}


def samples(language: str) -> list[Any]:
    """Each code block of a language on any page, under the page's name and the line it begins in."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.finditer(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            written = "\n".join(line.removeprefix(block[1]) for line in block[2].splitlines())
            found.append(pytest.param(written, id=f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}"))
    return found


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The file that writes the reference pages, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_command_and_option_is_explained(reference: ModuleType) -> None:
    assert reference.unexplained() == []


def test_the_reference_has_every_command_and_every_key(reference: ModuleType) -> None:
    pages = reference.pages()
    assert all(f"`{key}`" in pages["reference/task.md"] for key in Task.model_fields)
    assert "finetune-assets feedback add-reviewer" in pages["reference/commands.md"]
    assert "`no_leakage` | `filtered_qa` | blocks" in pages["reference/checks.md"]


@pytest.mark.parametrize("written", samples("yaml"))
def test_a_yaml_sample_is_a_task_or_a_part_of_one(written: str, reference: ModuleType) -> None:
    found = yaml.safe_load(written)
    attributes = found["attributes"] if "type" in found else reference.EXAMPLE | found
    assert Task.model_validate(attributes)


@pytest.mark.parametrize("written", samples("python"))
def test_the_imports_of_a_python_sample_exist(written: str) -> None:
    for node in ast.parse(written).body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, name.name) for name in node.names)


def command_lines() -> list[Any]:
    """Each use of our command in a code block or between backticks, under its page."""
    lines = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in sorted(set(re.findall(r"finetune-assets ((?:[a-z][a-z-]*|--[a-z])[^`\n#|]*)", text))):
            lines.append(pytest.param(found, id=f"{page.name}:{found.strip()[:60]}"))
    return lines


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_names_a_command_and_options_that_exist(line: str) -> None:
    words = shlex.split(re.sub(r"[\[\].,;:\\]", " ", line))
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not (
        words and words[0] != "--help" and getattr(command, "commands", {}) and not command.invoke_without_command
    )
    options = {name for found in command.params for name in found.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_page_of_variables_names_those_that_the_package_reads() -> None:
    read = {found for file in PACKAGE.rglob("*.py") for found in texts(file) if VARIABLE.fullmatch(found)}
    page = (ROOT / "docs" / "environment.md").read_text("utf-8")
    assert set(re.findall(rf"^\| `({VARIABLE.pattern})`", page, re.MULTILINE)) == read | READ_BY_THE_SDK


def texts(file: Path) -> Iterator[str]:
    """The literal texts of a Python file, docstrings left out."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_a_message_that_is_explained_is_one_that_the_package_prints() -> None:
    said = " ".join("".join(texts_joined(file)) for file in PACKAGE.rglob("*.py"))
    page = (ROOT / "docs" / "messages.md").read_text("utf-8")
    explained = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert explained
    for message in explained:
        parts = [part.strip() for part in message.split("…") if part.strip()]
        assert all(part in said for part in parts), message


def texts_joined(file: Path) -> Iterator[str]:
    """The texts of a file, pieces that stand one after the other as one, filled places as nothing."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "" for part in node.values) + "\n"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value + "\n"
