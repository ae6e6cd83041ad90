"""The command line as a person uses it: a process with output, errors and an exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from finetune_assets import __version__
from finetune_assets_tests.patience import PATIENCE_S


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetune_assets.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=PATIENCE_S, check=False)


def write_chat(path: Path, n: int, broken_line: int | None = None) -> Path:
    """A training file of `n` examples, one of which may be cut off in the middle."""
    lines = [
        orjson.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Is {i} even?"},
                    {"role": "assistant", "content": "Yes"[i % 2 :]},
                ]
            }
        )
        for i in range(n)
    ]
    if broken_line:
        lines[broken_line - 1] = lines[broken_line - 1][:30]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_a_sound_file_is_valid(tmp_path: Path) -> None:
    done = run("validate", write_chat(tmp_path / "train.jsonl", 12), "--format", "json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["files"][0]["n_examples"] == report["files"][0]["n_lines"] == 12


def test_a_truncated_line_is_named_and_fails_the_command(tmp_path: Path) -> None:
    file = write_chat(tmp_path / "train.jsonl", 12, broken_line=7)
    done = run("validate", file, "--format", "json")
    assert done.returncode == 1
    (error,) = json.loads(done.stdout)["files"][0]["errors"]
    assert (error["line"], error["code"]) == (7, "invalid_json")
    assert "7" in run("validate", file).stdout


def test_structure_alone_is_checked_without_counting(tmp_path: Path) -> None:
    done = run("validate", write_chat(tmp_path / "train.jsonl", 12, 7), "--structure-only", "--format", "json")
    (file,) = json.loads(done.stdout)["files"]
    assert (done.returncode, file["n_examples"], file["tokens"]) == (1, 11, None)
    assert [error["line"] for error in file["errors"]] == [7]


def test_a_preference_file_is_known_by_its_lines(tmp_path: Path) -> None:
    answers = {"preferred_output": [{"role": "assistant", "content": "Yes"}]}
    answers |= {"non_preferred_output": [{"role": "assistant", "content": "No"}]}
    lines = [{"input": {"messages": [{"role": "user", "content": f"Is {n} odd?"}]}, **answers} for n in range(10)]
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    assert run("validate", file).returncode == 0


def test_a_leak_is_reported_on_the_validation_files_line(tmp_path: Path) -> None:
    train = write_chat(tmp_path / "train.jsonl", 12)
    validation = tmp_path / "validation.jsonl"
    validation.write_bytes(train.read_bytes().splitlines()[3] + b"\n")
    done = run("validate", train, "--validation", validation, "--format", "json")
    files = json.loads(done.stdout)["files"]
    assert done.returncode == 1
    assert [(e["line"], e["code"]) for e in files[1]["errors"]] == [(1, "leak")]


def test_what_looks_like_markup_in_a_file_is_printed_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"messages": "[/b]"}\n')
    done = run("validate", file)
    assert (done.returncode, done.stderr) == (1, "")
    assert "[/b]" in done.stdout


def test_many_findings_of_one_kind_are_cut_in_the_table_and_counted(tmp_path: Path) -> None:
    file = write_chat(tmp_path / "train.jsonl", 60)
    file.write_bytes(file.read_bytes() + b"{\n" * 50)
    assert "30 more invalid_json: see --format json" in run("validate", file).stdout


def test_the_report_is_written_as_a_page_where_asked(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert run("validate", write_chat(tmp_path / "train.jsonl", 12), "--html", page).returncode == 0
    assert "ready to upload" in page.read_text("utf-8")


def test_a_file_is_judged_by_provider_model_and_method(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + write_chat(file, 12).read_bytes())

    def warned(*options: str) -> list[str]:
        done = run("validate", file, *options, "--format", "json")
        return [found["code"] for found in json.loads(done.stdout)["files"][0]["warnings"]]

    assert warned() == ["byte_order_mark"]
    assert warned("--provider", "azure", "--model", "gpt-4o-mini") == []
    assert run("validate", file, "--method", "reinforcement").returncode == 1
    refused = run("validate", file, "--model", "gpt-4o-minni")
    assert refused.returncode == 2
    assert "did you mean" in refused.stderr


def test_a_file_at_an_address_whose_driver_is_not_there_is_one_sentence() -> None:
    done = run("validate", "nosuch://bucket/train.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: nosuch://bucket/train.jsonl: cannot be read")
    assert "Traceback" not in done.stderr


def test_wrong_use_exits_with_2(tmp_path: Path) -> None:
    assert run("validate", tmp_path / "absent.jsonl").returncode == 2
    assert run("demo", "--region", "thin_film").returncode == 2


def test_an_unknown_task_is_one_line_with_those_there_are() -> None:
    done = run("demo", "--task", "absent")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no task 'absent'")
    assert "solar_cells" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_that_need_not_move_is_told_so_at_once() -> None:
    done = run("migrate", "solar_cells", "--to", "local")
    assert done.returncode == 1 and "at local already: name another provider or model" in done.stderr
    assert run("migrate", "solar_cells", "--to", "openai", "--region", "thin_film").returncode == 2


def test_a_taken_port_is_told_at_once_with_who_holds_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: port {port} is held by process {os.getpid()} (")
    assert done.stderr.endswith("stop that, or choose another with --port\n") and list(tmp_path.iterdir()) == []


def test_the_version_is_said() -> None:
    assert run("--version").stdout == f"finetune-assets {__version__}\n"


def test_every_command_explains_itself() -> None:
    for command in ("demo", "migrate", "serve", "ui", "validate", "webhooks"):
        assert run(command, "--help").returncode == 0


def test_status_says_which_provider_is_silent_and_how_to_reach_it(tmp_path: Path) -> None:
    with socket.socket() as silent:  # nobody else gets its port, and nobody answers there
        silent.bind(("127.0.0.1", 0))
        code = "import sys; from finetune_assets import cli; from finetune_assets.provider import local_server; "
        code += f"local_server.PORT = {silent.getsockname()[1]}; cli.main()"
        command = [sys.executable, "-c", code, "status", "--task", "solar_cells"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "local: " in done.stderr and "finetune-assets serve" in done.stderr


@pytest.mark.parametrize(
    ("command", "library", "extra"), [("feedback", "sqlalchemy", "feedback"), ("serve", "fastapi", "server")]
)
def test_what_an_extra_brings_is_named_where_it_is_missing(command: str, library: str, extra: str) -> None:
    without = f"import sys; sys.modules['{library}'] = None; sys.argv[1:] = ['{command}']"
    code = f"{without}; from finetune_assets import cli; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: {library} is not installed; run: pip install 'finetune_assets[{extra}]'\n"
