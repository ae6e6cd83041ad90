from pathlib import Path

import pytest

from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, user

ANSWER = b'{"role": "assistant", "content": "Yes"}'


@pytest.mark.parametrize(
    "line",
    [
        b'{"messages": [], "messages": [{"role": "user", "content": "Wet?"}, ' + ANSWER + b"]}",
        b'{"messages": [{"role": "system", "role": "user", "content": "Wet?"}, ' + ANSWER + b"]}",
        b'{"messages" : [{"role" : "user", "content": "No", "content" : "Wet?"}, ' + ANSWER + b"]}",
    ],
)
def test_a_key_that_stands_twice_in_an_object_is_an_error(tmp_path: Path, line: bytes) -> None:
    report = checked(tmp_path, line)
    assert codes(report) == [(11, "duplicate_key")]
    assert report.n_examples == 10


def test_texts_that_look_like_keys_are_none(tmp_path: Path) -> None:
    said = '{"role": "user", "role": "user"}'
    assert codes(checked(tmp_path, chat(user(said), assistant(said, weight=1)))) == []
