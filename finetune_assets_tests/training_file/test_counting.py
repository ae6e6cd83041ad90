import subprocess
import sys

import orjson
import pytest

from finetune_assets.training_file import counting
from finetune_assets.training_file.counting import Counting
from finetune_assets.training_file.tokens import Talk, count

TALKS: list[list[Talk]] = [[(n % 7, [f"Is {n} even?", "Yes"])] for n in range(40)] + [
    [(3, []), (4, ["No", "Maybe not"])]
]
EXPECTED = {n: [fixed + sum(map(count, texts)) for fixed, texts in talks] for n, talks in enumerate(TALKS)}


def counted() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    with Counting(found.__setitem__) as each:
        for line, talks in enumerate(TALKS):
            each.add(line, talks)
    return found


def test_every_talk_is_counted_with_what_is_fixed() -> None:
    assert counted() == EXPECTED


@pytest.mark.parametrize("first", [1, 5])
def test_two_processes_count_the_same(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    monkeypatch.setattr(counting, "_BATCH_CHARACTERS", 10)
    monkeypatch.setattr(counting, "_WORTH_A_PROCESS", first)
    assert counted() == EXPECTED


def test_the_second_process_answers_line_by_line_and_ends_with_its_input() -> None:
    lines = b"".join(orjson.dumps(texts) + b"\n" for texts in ([], ["hello world", ""], ["a\nb"]))
    command = [sys.executable, "-m", "finetune_assets.training_file.counting"]
    done = subprocess.run(command, input=lines, capture_output=True, check=True)
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == [[], [2, 0], [count("a\nb")]]
