from pathlib import Path

import pytest

from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, text, user


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("Use sk-proj-" + "a1B2" * 8, "secret", "an OpenAI or Anthropic key"),
        ("Use AKIA" + "A1" * 8 + ".", "secret", "an AWS key"),
        ("ghp_" + "x1" * 18, "secret", "a GitHub token"),
        ("-----BEGIN RSA PRIVATE KEY-----", "secret", "a private key"),
        ("The end.<|endoftext|>", "special_token", "'<|endoftext|>'"),
        ("a\x00b", "control_character", "'\\x00'"),
        ("a\x7fb", "control_character", "'\\x7f'"),
        ("caf\ufffd", "replacement_character", "in the right encoding"),
        ("It isnâ€™t", "mojibake", "read its source as UTF-8"),
        ("cafÃ©", "mojibake", "'Ã©'"),
    ],
)
def test_what_a_reader_would_stumble_over_is_a_warning(tmp_path: Path, words: str, code: str, told: str) -> None:
    report = checked(tmp_path, chat(user(), assistant(words)), chat(user([text(words)]), assistant("No")))
    warned = [(finding.line, finding.code) for finding in report.warnings if finding.code == code]
    assert (warned, report.errors) == ([(11, code), (12, code)], [])
    assert all(told in finding.message for finding in report.warnings if finding.code == code)


def test_a_secret_is_not_repeated(tmp_path: Path) -> None:
    key = "sk-" + "a1B2" * 8
    assert key not in str(checked(tmp_path, chat(user(key), assistant())).to_dict())


@pytest.mark.parametrize("words", ["São Ângela, 25 °C", "a sk-12 mask", "x <|> y", "line\n\ttab", "😀 e\u0301", "Ã la"])
def test_ordinary_texts_have_no_finding(tmp_path: Path, words: str) -> None:
    assert codes(checked(tmp_path, chat(user(words), assistant()))) == []
