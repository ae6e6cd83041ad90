import orjson
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.task import Prompt, Shot
from finetune_assets.training_file.chat_format import to_messages
from finetune_assets.training_file.line_template import COLUMNS, LineTemplate, joined

Row = tuple[str | None, str, str, str | None]
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["\ue000", "\ue001", '"', "a\\n\n", "\x00\x1f\x7f", "{question}", "question", '","', ""]
)
rows = st.tuples(st.none() | texts, texts, texts, st.sampled_from([None, "a.png"]))


def batch(*found: Row) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [dict(zip(COLUMNS, row, strict=True)) for row in found],
        pa.schema([(name, pa.large_string()) for name in COLUMNS]),
    )


def rendered(prompt: Prompt, *found: Row) -> list[tuple[bytes, bytes]]:
    before, after = LineTemplate(prompt).around_images(batch(*found))
    return list(zip(before.to_pylist(), after.to_pylist(), strict=True))


def expected(prompt: Prompt, row: Row) -> tuple[bytes, bytes]:
    """What encoding the whole conversation gives."""
    system, question, answer, image = row
    url = None if image is None else "the-url-of-it"
    line = orjson.dumps({"messages": to_messages(prompt, question, url, answer, system=system)}) + b"\n"
    before, _, after = line.partition(b"the-url-of-it")
    return before, after


@given(st.lists(rows, max_size=8), texts, texts, st.lists(st.tuples(texts, texts), max_size=2))
def test_lines_are_the_json_of_their_conversations(
    found: list[Row], system: str, user: str, shots: list[tuple[str, str]]
) -> None:
    shown = [Shot(question=f"q{question}", answer=f"a{answer}") for question, answer in shots]
    prompt = Prompt(system=system, user=f"{user}{{question}}{user}", shots=shown)
    assert rendered(prompt, *found) == [expected(prompt, row) for row in found]


def test_a_text_line_is_whole_before_the_image_that_is_not_there() -> None:
    [(line, rest)] = rendered(Prompt(), (None, "Is it?", "Yes", None))
    assert line == b'{"messages":[{"role":"user","content":"Is it?"},{"role":"assistant","content":"Yes"}]}\n'
    assert rest == b""


def test_characters_that_json_forbids_are_escaped_in_their_row_alone() -> None:
    [(first, _), (second, _)] = rendered(Prompt(), (None, '5" \\', "a\tb", None), (None, "plain", "é", None))
    assert b'"5\\" \\\\"' in first and b'"a\\tb"' in first
    assert b'"plain"' in second and "é".encode() in second


def test_lines_of_a_part_of_a_batch_are_joined_without_the_others() -> None:
    rows = batch(*[(None, f"q{number}", "a", None) for number in range(5)])
    template = LineTemplate(Prompt())
    before, _ = template.around_images(rows)
    part, _ = template.around_images(rows.slice(1, 2))
    assert bytes(joined(part)) == b"".join(before.to_pylist()[1:3]) == bytes(joined(before.slice(1, 2)))
