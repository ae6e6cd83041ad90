from pathlib import Path
from typing import Any

from finetune_assets.training_file.target import find_target
from finetune_assets.training_file.tokens import count
from finetune_assets.training_file.tool_tokens import tool_tokens
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, good, user, write

WEATHER = {
    "name": "get_weather",
    "description": "Of a town.",
    "parameters": {
        "type": "object",
        "required": ["town"],
        "properties": {
            "town": {"type": "string", "description": "Its name."},
            "unit": {"enum": ["c", "f"]},
            "days": {"type": ["integer", "null"]},
            "where": {"type": "array", "items": {"type": "object", "properties": {"lat": {"type": "number"}}}},
        },
    },
}
WRITTEN = """namespace functions {

// Of a town.
type get_weather = (_: {
// Its name.
town: string,
unit?: "c" | "f",
days?: number | null,
where?: {
lat?: number,
}[],
}) => any;

} // namespace functions"""


def declared(function: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": function}]


def test_functions_count_as_types_of_typescript() -> None:
    assert tool_tokens([WEATHER]) == 9 + count(WRITTEN)
    assert tool_tokens([]) == 0


def test_functions_are_counted_in_each_example_and_called_an_estimate(tmp_path: Path) -> None:
    lines = [chat(user(f"{n}?"), assistant(str(n)), tools=declared(WEATHER)) for n in range(3)]
    report, bare = checked(tmp_path, *lines), checked(tmp_path, *[line | {"tools": []} for line in lines])
    assert report.tool_tokens == report.tokens_total - bare.tokens_total == 3 * tool_tokens([WEATHER])
    assert report.to_dict()["tokens"]["tools_estimated"] == report.tool_tokens
    assert list(bare.to_dict()["tokens"]) == ["total", "max"]
    older = [chat(user(f"{n}?"), assistant(str(n)), functions=[WEATHER]) for n in range(3)]
    assert checked(tmp_path, *older).tokens_total == report.tokens_total


def test_functions_alone_can_make_an_example_too_long(tmp_path: Path) -> None:
    long = WEATHER | {"description": "one two " * 3_000}
    path = write(tmp_path / "train.jsonl", *good(10), chat(tools=declared(long)))
    [report] = validate(path, target=find_target("openai", "gpt-3.5-turbo-0613")).files
    assert codes(report) == [(11, "too_long")]
    assert "tokens, those of the functions estimated; what is beyond 4,096" in report.warnings[0].message
