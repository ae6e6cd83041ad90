from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_assets.errors import SourceError
from finetune_assets.evals.cases import Cases
from finetune_assets.evals.promptfoo import read

HEAD = "prompts:\n- 'Is {{name}} a {{what}}?'\n"
TESTS = f"""{HEAD}providers: [openai:gpt-4.1]
defaultTest:
  vars: {{what: fruit}}
tests:
- vars: {{name: an apple}}
  assert:
  - type: equals
    value: Yes
- vars:
    name: a horse
    what: bird
  assert:
  - {{type: icontains, value: '{{{{label}}}}'}}
  - {{type: latency, threshold: 100}}
- vars: {{name: both, label: 'No'}}
  assert: [{{type: equals, value: '{{{{label}}}}'}}]
"""


def taken(folder: Path, text: str, name: str = "promptfooconfig.yaml") -> Cases:
    (folder / name).write_text(text)
    return read(folder / name, None, None)


def reasons(folder: Path, *tests: str) -> list[str]:
    return [left.reason for left in taken(folder, f"{HEAD}tests:\n" + "\n".join(f"- {test}" for test in tests)).left]


def test_a_test_is_taken_where_its_assertion_compares_with_one_text(tmp_path: Path) -> None:
    found = taken(tmp_path, TESTS)
    assert [(case.where, case.messages[0]["content"], case.answer) for case in found.taken] == [
        ("promptfooconfig.yaml:7", "Is an apple a fruit?", "Yes"),
        ("promptfooconfig.yaml:17", "Is both a fruit?", "No"),
    ]
    assert [(left.where, left.reason) for left in found.left] == [
        ("promptfooconfig.yaml:11", "has nothing under label"),
    ]
    assert found.remarks == ["`providers` is not taken over: models are named by the task"]


def test_what_an_assertion_judges_otherwise_is_said_once(tmp_path: Path) -> None:
    test = "{vars: {name: x, what: y}, assert: [{type: contains, value: Yes it is}, {type: cost, threshold: 1}]}"
    found = taken(tmp_path, f"{HEAD}tests: [{test}, {test}]")
    assert len(found.taken) == 2
    assert found.remarks == [
        "`contains` is passed by an answer that holds the text; a task reads one answer",
        "`cost` is not taken over: it does not say which answer is right",
    ]


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("{vars: {name: x, what: y}}", "its assertions name 0 different answers, and a task has one"),
        (
            "{vars: {name: x, what: y}, assert: [{type: equals, value: a}, {type: equals, value: b}]}",
            "its assertions name 2 different answers, and a task has one",
        ),
        ("{vars: {name: x, what: y}, assert: [{type: javascript, value: 1}]}", "runs code, and none is run"),
        ("{vars: {name: x, what: y}, assert: [{type: python, value: 'file://a.py'}]}", "runs code, and none is run"),
        ("{vars: {name: x, what: y}, assert: [{type: llm-rubric, value: good}]}", "does not compare with one text"),
        ("{vars: {name: x, what: y}, assert: [{type: not-equals, value: a}]}", "not-equals does not compare"),
        (
            "{vars: {name: x, what: y}, assert: [{type: equals, value: {a: 1}}]}",
            "must be a text, a number or a boolean",
        ),
        (
            "{vars: {name: x, what: y}, assert: [{type: equals, value: a, transform: output.trim()}]}",
            "its assertion equals has a transform, and no code is run",
        ),
        (
            "{vars: {name: x, what: y}, options: {transform: output.trim()}, assert: [{type: equals, value: a}]}",
            "its options `transform` would change it on its way",
        ),
        ("{vars: {name: [x, z], what: y}, assert: [{type: equals, value: a}]}", "name must be a text, a number"),
        ("{vars: {name: '{{what}}', what: y}, assert: [{type: equals, value: a}]}", "is itself a template"),
        ("{vars: file://vars.py, assert: [{type: equals, value: a}]}", "files of variables are not read"),
        (
            "{vars: {name: 'file://load.js', what: y}, assert: [{type: equals, value: a}]}",
            "of files only images are read, and no code is run",
        ),
        (
            "{vars: {name: 'file:///etc/x.png', what: y}, assert: [{type: equals, value: a}]}",
            "lies outside of the config's folder, and is not read",
        ),
        ("3", "a test must be an object, found a number (3)"),
    ],
)
def test_a_test_that_cannot_be_taken_over_is_left_with_its_reason(tmp_path: Path, test: str, reason: str) -> None:
    [found] = reasons(tmp_path, test)
    assert reason in found


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("prompts: [a, b]\ntests: []", r"a task has one prompt; name one by --prompt: 1, 2"),
        ("prompts: file://prompt.py\ntests: []", "the prompt 'file://prompt.py' is code, and none is run"),
        ("prompts: prompt.js\ntests: []", "the prompt 'prompt.js' is code"),
        ("prompts: file:///etc/hostname\ntests: []", "lies outside of the config's folder"),
        ("prompts: a\ntests: file://tests.py", "the tests 'file://tests.py' are not read"),
        ("prompts: a\ntests: ../tests.csv", "lies outside of the config's folder"),
        ("prompts: a\ntests: file://*.csv", "name one file beside the config"),
        ("prompts: a\ntests: https://docs.google.com/sheet", "is not read: name one file beside the config"),
        ("prompts: a\ntests: []\nscenarios: [{}]", "`scenarios` are not taken over"),
        ("prompts: a\ntests: []\ndefaultTest: file://d.yaml", "`defaultTest` must be an object"),
        ("prompts: !!python/object/apply:os.system [ls]\ntests: []", r":1: the tag .*os.system is not taken"),
        ("prompts: a\ntests: &a [*a]", "an alias stands inside of what it names"),
        ("prompts: a\ntests: [{vars: {a: 010}}]", ":2: tests.*: 010 is not the same number to every reader of YAML"),
        ("prompts: a\ntests: [nothing]", "the tests 'nothing' are not read"),
        ("description: nothing", "is no promptfoo config: needs prompts and tests"),
    ],
)
def test_a_config_that_would_run_code_or_read_elsewhere_is_refused(tmp_path: Path, text: str, refusal: str) -> None:
    with pytest.raises(SourceError, match=refusal):
        taken(tmp_path, text)


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (tmp_path / "secret.csv").write_text("a,__expected\nx,y\n")
    (folder / "tests.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(SourceError, match="lies outside of the config's folder"):
        taken(folder, "prompts: '{{a}}'\ntests: tests.csv")


def test_tests_lie_in_a_table_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "tests.csv").write_text(
        "name,what,__expected,__metric\n"
        "an apple,fruit,Yes,m\n"
        'a horse,"large, brown bird",icontains: No,m\n'
        "code,x,javascript: output == 1,m\n"
        "rubric,x,llm-rubric: is it nice?,m\n"
        "colon,x,Note: this is text,m\n"
        "short\n"
    )
    found = taken(tmp_path, f"{HEAD}tests: file://tests.csv")
    assert [(case.where, case.messages[0]["content"], case.answer) for case in found.taken] == [
        ("tests.csv:2", "Is an apple a fruit?", "Yes"),
        ("tests.csv:3", "Is a horse a large, brown bird?", "No"),
        ("tests.csv:6", "Is colon a x?", "Note: this is text"),
    ]
    assert [(left.where, left.reason) for left in found.left] == [
        ("tests.csv:4", "its assertion javascript runs code, and none is run"),
        ("tests.csv:5", "its assertion llm-rubric does not compare with one text"),
        ("tests.csv:7", "the row has more or fewer cells than the header"),
    ]


def test_a_table_by_itself_needs_a_question(tmp_path: Path) -> None:
    (tmp_path / "tests.jsonl").write_text('{"vars": {"a": "x"}, "assert": [{"type": "equals", "value": "y"}]}\n')
    with pytest.raises(SourceError, match=r"say what is asked by --question"):
        read(tmp_path / "tests.jsonl", None, None)
    [case] = read(tmp_path / "tests.jsonl", None, "What is {{a}}?").taken
    assert (case.messages[0]["content"], case.answer) == ("What is x?", "y")


def test_a_prompt_of_messages_shows_images_that_lie_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    parts = [
        {"type": "text", "text": "Is it {{what}}?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,{{image}}"}},
    ]
    (tmp_path / "chat.json").write_text(
        json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}])
    )
    test = "{vars: {what: dark, image: 'file://images/a.png'}, assert: [{type: equals, value: 'No'}]}"
    [case] = taken(tmp_path, f"prompts: [{{id: 'file://chat.json', label: chat}}]\ntests: [{test}]").taken
    assert case.messages == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Is it dark?"},
                {"type": "image_url", "image_url": {"url": str(tmp_path / "images" / "a.png")}},
            ],
        },
    ]


def test_of_several_prompts_one_is_named(tmp_path: Path) -> None:
    test = "{vars: {a: x}, assert: [{type: equals, value: b}]}"
    (tmp_path / "c.yaml").write_text(
        f"prompts: [{{raw: 'One {{{{a}}}}', label: one}}, 'Two {{{{a}}}}']\ntests: [{test}]"
    )
    for name, said in (("one", "One x"), ("2", "Two x")):
        assert read(tmp_path / "c.yaml", name, None).taken[0].messages[0]["content"] == said
