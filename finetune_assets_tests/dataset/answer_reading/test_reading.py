"""What is read from a free text, and what is not certain enough to be."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.answer_reading import NumberFormat, label, read_answer, render
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer


def words(*options: str) -> Answer:
    if len(options) == 2:
        return BinaryAnswer(kind="binary", positive=options[0], negative=options[1])
    return ChoiceAnswer(kind="choice", options=list(options))


YES_NO, TYRE, GRADE = words("Yes", "No"), words("worn", "sound"), words("low", "medium", "high")
LETTERS, MORE_LETTERS = words(*"ABCD"), words(*"ABCDEFGHIJ")
NUMBER = NumberAnswer(kind="number")

READ = [
    ("a word", YES_NO, "yes", "Yes"),
    ("a word in Markdown", YES_NO, "**No**.", "No"),
    ("a word and its reason", YES_NO, "Yes, because the tread is gone.", "Yes"),
    ("a no and what is not", YES_NO, "No, it is not worn.", "No"),
    ("a full-width word", YES_NO, "\uff39es", "Yes"),
    ("a plain sentence", TYRE, "The tyre is worn.", "worn"),
    ("a sentence with place and reason", TYRE, "The tyre is clearly worn on the left, with little tread.", "worn"),
    ("a noun after its word", TYRE, "The image shows a worn car tyre.", "worn"),
    ("a word before its noun", words("cat", "dog", "bird"), "A photo of a small bird on a wall.", "bird"),
    ("a judgement", TYRE, "I would classify this as sound.", "sound"),
    ("a field and its value", TYRE, "After inspection: worn", "worn"),
    ("a plain sentence in Spanish", words("roto", "sano"), "El panel está roto por el borde.", "roto"),
    ("a polite sentence in Japanese", words("異常", "正常"), "これは正常です。", "正常"),
    ("an announced word", GRADE, "Is it low? The answer is high.", "high"),
    ("in German", words("Ja", "Nein"), "Die Antwort lautet Nein.", "Nein"),
    ("in French", LETTERS, "La r\u00e9ponse est D.", "D"),
    (
        "in Chinese",
        words("\u5317\u4eac", "\u4e0a\u6d77", "\u5e7f\u5dde"),
        "\u7b54\u6848\u662f\u4e0a\u6d77\u3002",
        "\u4e0a\u6d77",
    ),
    ("in Korean", words("서울", "부산"), "부산입니다", "부산"),
    ("after reasoning", YES_NO, "<think>It may be no.</think>\nYes", "Yes"),
    (
        "in the final channel",
        YES_NO,
        "<|channel|>analysis<|message|>no<|channel|>final<|message|>Yes<|end|>",
        "Yes",
    ),
    ("in JSON", YES_NO, '```json\n{"answer": "No", "why": "perhaps"}\n```', "No"),
    ("in LaTeX", LETTERS, r"So $\boxed{\text{C}}$.", "C"),
    ("a letter and its words", LETTERS, "B) a tyre", "B"),
    ("a letter beside an article", LETTERS, "A tyre is worn, so the answer is D.", "D"),
    ("the letter A", LETTERS, "Answer: A", "A"),
    ("the letter I", MORE_LETTERS, "I think the answer is I.", "I"),
    ("a letter that is said", MORE_LETTERS, "I would say G", "G"),
    ("after a list", LETTERS, "A) tyre B) rim\nAnswer: B", "B"),
    ("the longer of two words", words("Fault", "No fault", "Other"), "There is no fault.", "No fault"),
    ("a negation of the task's own", words("not worn", "worn"), "It is not worn.", "not worn"),
    ("a word that ends in signs", words("C", "C++", "C#"), "It is C++.", "C++"),
    ("signs", words("+", "-"), " -", "-"),
    ("a number", NUMBER, "It weighs 12 kg.", 12),
    ("a number that is estimated", NUMBER, "I would say about $12", 12),
    ("a count", NUMBER, "I can see 3 cells on the left.", 3),
    ("after the last cue", NUMBER, "3 and 4 make this.\n#### 7", 7),
    ("a result", NUMBER, "3 times $4 = $12.00", 12),
    ("a boxed number", NUMBER, r"$\boxed{-3.5}$", -3.5),
    ("a multiple", NUMBER, "$3.4 million", 3_400_000),
    ("spaces beside a currency", NUMBER, "EUR 2 499", 2499),
    ("commas", NUMBER, "1,234.50", 1234.5),
    ("a typographic minus", NUMBER, "\u22125 \u00b0C", -5),
    ("a minus in words", NUMBER, "minus 5", -5),
    ("an exponent", NUMBER, "1.2 \u00d7 10^3", 1200),
]
"""Kind, answer, text and what it reads."""

UNREAD = [
    ("two words", YES_NO, "Yes and no"),
    ("a question", TYRE, "Is it worn?"),
    ("a correction", YES_NO, "Yes. Wait, no."),
    ("a withdrawal", TYRE, "It is worn. That is not true."),
    ("a contrast", TYRE, "It is worn because I was told so, but it is not."),
    ("no as an article", YES_NO, "No doubt it is worn."),
    ("another's answer", LETTERS, "The wrong answer is B."),
    ("an article", LETTERS, "A tyre is there."),
    ("a pronoun", MORE_LETTERS, "I cannot tell."),
    ("a range", GRADE, "low to medium"),
    ("joined words", GRADE, "low-medium"),
    ("a longer word", words("C", "Java"), "C++"),
    ("a step to another grade", GRADE, "at least medium"),
    ("two cues", LETTERS, "The answer is B. Actually, the answer is C."),
    ("unfinished reasoning", YES_NO, "<think>Yes"),
    ("JSON without an answer", YES_NO, '{"a": "Yes", "b": "No"}'),
    ("a finding and its value", TYRE, "worn: negative"),
    ("a minus for its value", TYRE, "Worn: -"),
    ("a minus in brackets", TYRE, "worn (-)"),
    ("a dash in brackets, before it", TYRE, "(\u2013) worn"),
    ("a minus behind a finding", TYRE, "worn \u2013"),
    ("a short negative", TYRE, "Worn (-ve)"),
    ("a letter for no", TYRE, "Worn: N"),
    ("a letter for no in brackets", TYRE, "worn (n)"),
    ("a letter for false", TYRE, "Worn = F"),
    ("not applicable", TYRE, "worn: n/a"),
    ("an empty set for its value", TYRE, "worn: \u2205"),
    ("an empty box", TYRE, "\u2610 worn"),
    ("what others of the family have", TYRE, "Family history: worn"),
    ("a nought for its value", TYRE, "worn = 0"),
    ("a number for its value", TYRE, "worn: 0.3"),
    ("two numbers", NUMBER, "The price in 2019 was $30"),
    ("a scale", NUMBER, "From 1 to 5: 4"),
    ("either number", NUMBER, "5 or 6"),
    ("a range of numbers", NUMBER, "5-6"),
    ("a limit", NUMBER, "at least 5"),
    ("a fraction", NUMBER, "1/2"),
    ("a date", NUMBER, "2021-03-04"),
    ("a power", NUMBER, "10\u2076"),
    ("a name", NUMBER, "A-5"),
    ("a bullet", NUMBER, "- 5"),
    ("a minus behind", NUMBER, "5-"),
    ("a multiple in words", NUMBER, "twice 5"),
    ("a letter that leads to another", LETTERS, "A => B"),
]


@pytest.mark.parametrize(("answer", "text", "value"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_what_is_certain_is_read(answer: Answer, text: str, value: str | float) -> None:
    read = read_answer(text, answer)
    assert read is not None and read.value == value


@pytest.mark.parametrize(("answer", "text"), [case[1:] for case in UNREAD], ids=[case[0] for case in UNREAD])
def test_what_is_not_certain_is_none(answer: Answer, text: str) -> None:
    assert read_answer(text, answer) is None


UNKNOWN = """
apenas {a}|está a punto de ser {a}|Il serait {a}|Può darsi che sia {a}|affatto {a}|wydaje się {a}|{a} olabilir
nem {a}|{a} sayılmaz|вряд ли {a}|похоже на {a}|{a} отсутствует|навряд чи {a}|排除{a}|看起来像{a}|{a}と思われる
{a}を認めず|비{a}|{a}으로 보입니다|lijkt {a}|allesbehalve {a}|knappast {a}|næppe {a}|لم يكن {a}|אינו {a}|शायद {a}
asi {a}|ei {a}|tuskin {a}|aligha {a}|nu este {a}|δεν είναι {a}|không {a}|bukan {a}|ไม่{a}|moderately {a}
somewhere around {a}|leaning {a}|arguably {a}|close to {a}|tendenziell {a}|annähernd {a}|ich glaube {a}
{a} zu sagen|das ist {a} zu beurteilen|stopped being {a}|used to be {a}|cleared of being {a}|was {a} last year
{a} in the prior study|as {a} as the others|minimally {a}|too {a}|a nearly {a} one"""
TURNED = """It is not {a}.|It isn't {a}|It is no longer {a}|non-{a}|It is never {a}|I would not call it {a}
There is no evidence that it is {a}.|Nothing here is {a}.|without {a} parts|free of {a} parts
{a} can be ruled out|negative for {a}|absence of {a} parts|He denies that it is {a}|neither {a} nor {b}
Nicht {a}|kein {a} Teil|ohne {a}|Ce n'est pas {a}|sans {a}|no hay {a}|sin {a}|不是{a}|{a}ではない
I cannot say whether it is {a}.|Maybe {a}|Possibly {a}|It might be {a}|It could be {a}|unclear whether {a}
If {a}, replace it.|Probably {a}|I am not sure, {a}|{a}?|vielleicht {a}|peut-être {a}|可能是{a}
{a} or {b}|either {a} or {b}|{a} and {b}|{a}/{b}|{a} to {b}|{a}. Wait, actually {b}.|{a}. No, {b}.|between {a} and {b}
The answer is not {a}.|I doubt that the answer is {a}.|The answer is {a} or {b}.|The answer is {a}. No, {b}.
If so, the answer is {a}.|The answer could be {a}|The answer is {a}? I don't know.|The wrong answer is {a}.
frei von {a}|Verdacht auf {a}|V. a. {a}|am ehesten {a}|überwiegend {a}|teilweise {a}|beinahe {a}|fast {a}|mitnichten {a}
Ausschluss {a}|alles andere als {a}|exempt de {a}|plutôt {a}|sospecha de {a}|疑似{a}|mostly {a}|devoid of {a}
all but {a}|{a} to be confirmed|unconfirmed: {a}|formerly {a}|at risk of {a}|will become {a}|unlike the {a} one
suspicion of {a}|50 % {a}|half {a}|probability of {a}: 0.2|{a} with one exception|as good as {a}"""
NO_NUMBERS = """
weniger als {n}|meer dan {n}|più di {n}|mais de {n}|более {n}|{n}以上|{n}-fold|alespoň {n}|legalább {n}
v1.2.{n}|fewer than {n}|en az {n}|enemmän kuin {n}|co najmniej {n}|ít nhất {n}|το πολύ {n}|لا يقل عن {n}
cel puțin {n}"""
PLAIN = ["{a}", "{a}.", "**{a}**", "The answer is {a}.", "Answer: {a}", "I see a crack, so the answer is {a}.", '"{a}"']
BEFORE, AFTER = ["", "I have looked at it. ", "\n", "> "], ["", " Thank you.", "\n", " It was photographed in May."]
SETS = [
    ("worn", "sound"),
    ("Yes", "No"),
    ("low", "medium", "high"),
    tuple("ABCD"),
    ("Present", "Absent"),
    ("1", "2", "3"),
]


@given(st.sampled_from(TURNED.replace("\n", "|").split("|")), st.sampled_from(SETS), st.data())
def test_no_sentence_with_a_negation_a_hedge_or_two_candidates_is_read(
    form: str, options: Sequence[str], data: st.DataObject
) -> None:
    one, other = data.draw(st.permutations(options))[:2]
    text = data.draw(st.sampled_from(BEFORE)) + form.format(a=one, b=other) + data.draw(st.sampled_from(AFTER))
    assert read_answer(text, words(*options)) is None


@pytest.mark.parametrize("form", UNKNOWN.strip().replace("\n", "|").split("|"))
@pytest.mark.parametrize("options", [("worn", "sound"), ("mild", "moderate", "severe"), ("裂纹", "正常")])
def test_a_word_that_nobody_listed_may_turn_a_sentence_round(form: str, options: Sequence[str]) -> None:
    assert read_answer(form.format(a=options[-1]), words(*options)) is None


SOMEBODY_ELSE = """
I was told it is {a}|some say it is {a}|my colleague thinks it is {a}|according to the label it is {a}|I hear it is {a}
they told me the cell is {a}|the manual states that the cell is {a}|the customer believes the cell is {a}
it was written that this is {a}|the rumor is it is {a}|the previous reviewer labelled it as {a}
rumour has it the cell is {a}|the technician found a {a} cell|the doctor says it is {a}
model 1 classified it as {a}|is it true that the cell is {a}|I refuse to say it is {a}|were it cracked it is {a}
imagine the cell is {a}|yesterday it was {a}|man sagt, die Zelle ist {a}|on dit que la cellule est {a}"""
SOMETHING_ELSE = """
the neighbouring cell is {a}|the other cell is {a}|the cell beside it is {a}|everything is {a}|only the frame is {a}
in the previous image, the cell is {a}|in the reference image, the cell is {a}|he sees a {a} cell
the word is {a}|the term here is {a}|the title says {a}|the file name is {a}
half the cells are {a}|some cells are {a}|one in ten is {a}|part of the cell is {a}|answer choices are {a}"""
IT = """
the cell in this picture is {a}|the solar cell shown in the image is {a}|looking at the picture, the cell is {a}
I would classify it as {a}|this can be classified as {a}|I see that the cell is {a}|the image shows the cell is {a}
the cell has a crack and is {a}|in conclusion, the condition of the cell is {a}|die Zelle auf dem Bild ist {a}
la celda de la imagen es {a}|these cells are {a}|Yes, it is {a}"""


@pytest.mark.parametrize("form", (SOMEBODY_ELSE + SOMETHING_ELSE).strip().replace("\n", "|").split("|"))
def test_what_others_say_or_what_is_said_of_another_thing_is_no_answer(form: str) -> None:
    assert read_answer(f"{form.format(a='worn')}.", words("worn", "sound")) is None


@pytest.mark.parametrize("form", IT.strip().replace("\n", "|").split("|"))
def test_what_is_said_of_the_thing_in_question_is_read(form: str) -> None:
    read = read_answer(f"{form.format(a='worn')}.", words("worn", "sound"))
    assert read is not None and read.value == "worn"


@pytest.mark.parametrize("form", NO_NUMBERS.strip().replace("\n", "|").split("|"))
def test_a_word_that_nobody_listed_may_make_a_number_a_limit(form: str) -> None:
    text = form.format(n=5)
    assert read_answer(text, NUMBER) is None
    assert label(text, NUMBER, NumberFormat(".")) is None


@given(
    st.sampled_from(PLAIN),
    st.sampled_from([*SETS, ("C", "C++", "C#"), ("\u662f", "\u5426"), ("+1", "-1", "0")]),
    st.data(),
)
def test_a_plain_answer_is_read_at_its_place(form: str, options: Sequence[str], data: st.DataObject) -> None:
    option = data.draw(st.sampled_from(options))
    text = data.draw(st.sampled_from(["", "\n", "<think>Maybe not.</think>"])) + form.format(a=option)
    read = read_answer(text, words(*options))
    assert read is not None and read.value == option
    assert text[read.start : read.end] == option


@given(
    st.floats(-1e12, 1e12),
    st.integers(0, 9),
    st.sampled_from(
        ["{}", "${}", "Price is ${}", "up to {} kg", "maybe {}", "{} %", "{} thousand", "not {}", "{}\u20ac"]
    ),
)
def test_a_number_is_read_back_as_the_task_writes_it(value: float, decimals: int, template: str) -> None:
    answer = NumberAnswer(kind="number", template=template, decimals=decimals)
    text = render(value, answer)
    read = read_answer(text, answer)
    assert read is not None and read.value == float(f"{round(value, decimals):.{decimals}f}")


@given(st.text(max_size=60), st.sampled_from([YES_NO, TYRE, LETTERS, NUMBER, TextAnswer(kind="text")]))
def test_any_text_is_read_within_itself_or_not_at_all(text: str, answer: Answer) -> None:
    read = read_answer(text, answer)
    assert read is None or 0 <= read.start < read.end <= len(text)


def test_the_text_proper_ends_before_its_explanation() -> None:
    text = "<think>salt?</think> Water.\nExplanation: it is wet."
    read = read_answer(text, TextAnswer(kind="text"))
    assert read is not None and read.value == text[read.start : read.end] == "Water."
    assert read_answer(" Explanation: x", TextAnswer(kind="text")) is None


def test_the_place_is_that_of_the_text_as_it_was_given() -> None:
    text = "\ufb01ne \u2460: die Antwort ist Gro\u00df\u0301."
    read = read_answer(text, words("gro\u00df\u0301", "klein"))
    assert read is not None and text[read.start : read.end] == "Gro\u00df\u0301"


def test_a_hundred_thousand_short_answers_take_seconds() -> None:
    start = time.process_time()
    for number in range(2000):
        read_answer(f"Tyre {number} is worn.", TYRE)
    assert time.process_time() - start < 1
