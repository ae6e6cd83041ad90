import bpe_openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.training_file import tokens
from finetune_assets.training_file.image_cost import image_cost
from finetune_assets.training_file.tokens import count, example_tokens
from finetune_assets_tests.training_file.chats import assistant, image, text, user

SPACING = [" ", " ", " ", "  ", "\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u3000"]
JARGON = [
    (
        "system",
        None,
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    ),
    ("system", "example_user", "New synergies will help drive top-line growth."),
    ("system", "example_assistant", "Things working well together will increase revenue."),
    (
        "system",
        "example_user",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
    ("user", None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
]


def test_count_agrees_with_the_published_token_ids_of_hello_world() -> None:
    assert count("hello world") == len([24912, 2375])


@pytest.fixture(scope="module")
def encoding() -> bpe_openai.Encoding:
    return bpe_openai.get_encoding("o200k_base")


@given(words=st.text(max_size=50))
def test_count_is_the_length_of_the_encoding(encoding: bpe_openai.Encoding, words: str) -> None:
    assert count(words) == len(encoding.encode_ordinary(words))


@given(
    pieces=st.lists(
        st.sampled_from([*SPACING, "a", "Bc", "漢", "1", "2345", "'s", "'LL", "!", "//", "_", "😀", "\u0301"])
    )
)
def test_spaces_of_all_kinds_are_counted_as_the_encoding_does(encoding: bpe_openai.Encoding, pieces: list[str]) -> None:
    words = "".join(pieces)
    assert count(words) == len(encoding.encode_ordinary(words))


def test_texts_of_ever_new_words_are_counted_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MAX_WORDS", 10)
    words = [f"{n}x" for n in range(100)]
    assert count(" ".join(words)) == count(words[0]) + sum(count(f" {word}") for word in words[1:])
    assert len(tokens._WORDS) <= 10


def test_texts_beyond_the_encoders_own_limits_are_counted() -> None:
    assert count("x" * 2_000_000) == 250_000


def test_special_tokens_written_out_are_plain_text() -> None:
    assert count("<|endoftext|>") == 7


def test_example_tokens_gives_the_124_that_openai_charged_for_the_cookbooks_example() -> None:
    """OpenAI cookbook, "How to count tokens with tiktoken": 124 tokens, counted and charged, on gpt-4o."""
    messages = [{"role": role, "content": words} | ({"name": name} if name else {}) for role, name, words in JARGON]
    assert example_tokens(messages) == 124


def test_an_image_at_low_detail_adds_85_tokens() -> None:
    asked = [user([image(detail="low"), text("Why?")]), assistant()]
    assert example_tokens(asked) - example_tokens([user("Why?"), assistant()]) == 85


def test_an_image_without_a_known_size_counts_as_1024_square() -> None:
    asked = [user([image("https://example.com/a.png"), text("Why?")]), assistant()]
    plain = example_tokens([user("Why?"), assistant()])
    assert example_tokens(asked) - plain == 765
    assert example_tokens(asked, sizes=[(512, 512)]) - plain == 85 + 170


def test_calls_of_functions_are_counted() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    bare = example_tokens([user(), assistant("")])
    assert example_tokens([user(), assistant(None, tool_calls=[call])]) == bare + 3 + count("look_up") + count("{}")
    older = {"role": "assistant", "function_call": call["function"]}
    assert example_tokens([user(), older]) == bare + 3 + count("look_up") + count("{}")


@pytest.mark.parametrize(
    ("model", "detail", "size", "expected"),
    [
        ("gpt-4o-2024-08-06", "low", (4096, 8192), 85),
        ("gpt-4o-2024-08-06", "high", (1024, 1024), 765),
        ("gpt-4o-2024-08-06", "high", (2048, 4096), 1105),
        ("gpt-4o-2024-08-06", "auto", (300, 300), 85 + 170),
        ("gpt-4o-mini-2024-07-18", "high", (512, 512), 2833 + 5667),
        ("gpt-4.1-mini-2025-04-14", "high", (1024, 1024), 1659),
        ("gpt-4.1-mini-2025-04-14", "high", (1800, 2400), 2489),
        ("smollm2-135m-vision", "low", (300, 300), 85),
        (None, "high", (768, 1), 85 + 2 * 170),
    ],
)
def test_image_tokens_follow_the_vision_guide(
    model: str | None, detail: str, size: tuple[int, int], expected: int
) -> None:
    assert image_cost(model or "").tokens(detail, *size) == expected
