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
        (".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0In0", "dozjgNryP4J3jVmN"]), "secret", "a signed token"),
        ("<|user|>Hi", "special_token", "'<|user|>'"),
        ("The end.<|endoftext|>", "special_token", "'<|endoftext|>'"),
        ("[INST] Hi", "special_token", "'[INST]'"),
        ("<start_of_turn>user", "special_token", "'<start_of_turn>'"),
        ("a\x00b", "control_character", "'\\x00'"),
        ("a\x7fb", "control_character", "'\\x7f'"),
        ("caf\ufffd", "replacement_character", "in the right encoding"),
        ("It isnâ€™t", "mojibake", "read its source as UTF-8"),
        ("cafÃ©", "mojibake", "'Ã©'"),
        ("Привет".encode().decode("cp1251"), "mojibake", "in another encoding"),
        ("日本".encode().decode("cp1252"), "mojibake", "in another encoding"),
        ("pass\u200bword", "invisible_character", "U+200B"),
        ("\ufeffYes", "invisible_character", "U+FEFF"),
        ("abc\u202ecba", "invisible_character", "U+202E"),
        ("a\x85b", "invisible_character", "U+0085"),
        ("![](data:image/png;base64," + "A" * 200 + ")", "image_in_text", "make it an image_url part"),
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


@pytest.mark.parametrize(
    "words",
    [
        "São Ângela, 25 °C",
        "a sk-12 mask",
        "x <|> y",
        "eyJ.eyJ.a",
        "line\n\ttab",
        "😀 e\u0301 👩\u200d👧",
        "Ã la",
        "\u0421\u0421\u0421\u0420 \u2116 5",  # four Cyrillic capitals that occur in broken texts
        "é » \u2014 “à”",
        "\u0645\u06cc\u200c\u062e",  # Persian, with the joiner that its spelling needs
        "\u0e04\u200b\u0e23",  # Thai, with a break between words
        "<img src='data:image/png;base64,iVBOR='>",
    ],
)
def test_ordinary_texts_have_no_finding(tmp_path: Path, words: str) -> None:
    assert codes(checked(tmp_path, chat(user(words), assistant()))) == []


def test_the_arguments_of_a_call_are_texts_too(tmp_path: Path) -> None:
    function = {"name": "log_in", "arguments": '{"key": "sk-' + "a1B2" * 8 + '"}'}
    made = assistant(None, tool_calls=[{"id": "c1", "type": "function", "function": function}])
    tools = [{"type": "function", "function": {"name": "log_in"}}]
    assert codes(checked(tmp_path, chat(user(), made, tools=tools))) == [(11, "secret")]
