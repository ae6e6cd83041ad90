"""Broken YAML files and what is said of each: the line, the key, what may stand there and the nearest spelling."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import TaskError, TaskFileError
from finetune_assets.task import Task, read_task
from finetune_assets.task import yaml_file as yaml_files

SOUND = """\
type: finetune_assets.pipeline.FineTuningTask

attributes:
  task: cells
  regions: [mono, poly]
  source:
    kind: table
    path: cells.csv
    question: "{question}"
    answer: "{answer}"
    image: "{file}"
  sampling: {train: 0.3, validation: 0.05, calibration: 0.12, test: 0.18}
  answer:
    kind: binary
    positive: "Yes"
    negative: "No"
  base_model: gpt-4o
"""


def refused(text: str | bytes, folder: Path) -> list[str]:
    """The faults of a file, without the name of its folder."""
    path = folder / "cells" / "defs.yaml"
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TaskError) as caught:
        read_task("cells", folder)
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def test_the_file_that_all_these_were_made_of_is_sound(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/defs.yaml").write_text(SOUND)
    assert read_task("cells", tmp_path).base_model == "gpt-4o"


BASE = "base_model: gpt-4o"
ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
EDITS = {
    "a key misspelt": (
        'answer: "{answer}"',
        'anwser: "{answer}"',
        "defs.yaml:10: source.anwser: there is no such key (did you mean answer?)",
    ),
    "a key of the task misspelt": (BASE, "base_modell: x", "defs.yaml:17: base_modell: there is no such key (did you"),
    "a key in the wrong place": (
        "    path: cells.csv\n",
        "    path: cells.csv\n    seed: 4\n",
        "defs.yaml:9: source.seed: there is no such key; those there are: answers, images, window, image_root",
    ),
    "a kind of source misspelt": (
        "kind: table",
        "kind: tabel",
        "defs.yaml:7: source.kind: must be one of elpv, diamonds, science_facts, generated, scored_images, image_qa, "
        "chat_jsonl, table, huggingface, image_folder, label_studio, coco, voc, yolo, dicom, sql, got 'tabel' "
        "(did you mean table?)",
    ),
    "no kind of source": ("    kind: table\n", "", "defs.yaml:6: source.kind: is missing; it is one of elpv, diamonds"),
    "a source without its mapping": (
        SOUND[SOUND.index("  source:") : SOUND.index("  sampling:")],
        "  source: elpv\n",
        "defs.yaml:6: source: must be a mapping of `key: value`, got 'elpv'; write {kind: elpv}",
    ),
    "no path": ("    path: cells.csv\n", "", "defs.yaml:6: source.path: is missing; write `path: ...` in `source`"),
    "a kind of answer misspelt": (
        "kind: binary",
        "kind: binery",
        "defs.yaml:14: answer.kind: must be one of binary, choice, score, number, text, call, got 'binery' (did you",
    ),
    "no answer": (
        SOUND[SOUND.index("  answer:\n") : SOUND.index("  base_model")],
        "",
        "defs.yaml:3: answer: is missing; write `answer: {kind: ...}`, where kind is one of binary, choice, score",
    ),
    "Yes without its quotes": (
        '"Yes"',
        "Yes",
        "defs.yaml:15: answer.positive: YAML reads Yes, No, on and off as true and false; put the word in quotes",
    ),
    "off without its quotes": (
        BASE,
        f"{BASE}\n  checks: {{no_leakage: off}}",
        "defs.yaml:18: checks.no_leakage: must be one of off, warn, error, got off; YAML reads it as false: put it in "
        'quotes, "off"',
    ),
    "Yes for a number": ("train: 0.3", "train: Yes", "defs.yaml:12: sampling.train: must be a number, got Yes"),
    "a word for a number": ("train: 0.3", "train: most", "defs.yaml:12: sampling.train: must be a number, got 'most'"),
    "a number below its least": ("train: 0.3", "train: -1", "defs.yaml:12: sampling.train: must be above 0, got -1"),
    "shares above one": ("train: 0.3", "train: 0.9", "sampling: shares must add up to at most 1, got 1.25"),
    "a share that is missing": ("train: 0.3, ", "", "defs.yaml:12: sampling.train: is missing; write `train: ...` in"),
    "epochs above their most": (
        BASE,
        f"{BASE}\n  method: {{n_epochs: 99}}",
        "defs.yaml:18: method.n_epochs: must be at most 50 or auto, got 99",
    ),
    "the question in the image's place": (
        'image: "{file}"',
        "image: Who is this?",
        "defs.yaml:11: source.image: must name a column in braces, such as \"{file}\", got 'Who is this?'",
    ),
    "braces without their quotes": (
        '"{file}"',
        "{file}",
        'defs.yaml:11: source.image: must be a text, got a mapping with file; put it in quotes: "{file}"',
    ),
    "a region in capitals": ("[mono, poly]", "[Mono]", "defs.yaml:5: regions[0]: must be lower case without spaces"),
    "a region that is a number": (
        "[mono, poly]",
        "[1]",
        'defs.yaml:5: regions[0]: must be a text; put it in quotes: "1"',
    ),
    "one region without its list": (
        "[mono, poly]",
        "mono",
        "defs.yaml:5: regions: must be a list, got 'mono'; write [mono]",
    ),
    "no region": ("[mono, poly]", "[]", "defs.yaml:5: regions: must have 1 or more entries, got []"),
    "a region twice": ("[mono, poly]", "[a, a]", "defs.yaml:5: regions: must be unique, got ['a', 'a']"),
    "discover misspelt": ("[mono, poly]", "discovered", "defs.yaml:5: regions: must be discover, got 'discovered'"),
    "a task in capitals": ("task: cells", "task: Cells", "defs.yaml:4: task: must be lower-case letters, digits and"),
    "a model that is a number": (
        BASE,
        "base_model: 4.1",
        'base_model: must be a text, got 4.1; put it in quotes: "4.1"',
    ),
    "a model that is nothing": (BASE, "base_model:", "defs.yaml:17: base_model: must be a text, got nothing"),
    "the same words for yes and no": (
        '"No"',
        '"yes"',
        "answer.positive: positive and negative must differ, both are 'Yes'",
    ),
    "one option": (
        'kind: binary\n    positive: "Yes"\n    negative: "No"',
        "kind: choice\n    options: [cat]",
        "defs.yaml:15: answer.options: must have 2 or more entries, got ['cat']",
    ),
    "a prompt that does not ask": (
        BASE,
        f"{BASE}\n  prompt: {{user: Look at it}}",
        'defs.yaml:18: prompt.user: must contain "{question}"',
    ),
    "half an example in the prompt": (
        BASE,
        f'{BASE}\n  prompt:\n    shots:\n      - question: "1 + 1?"\n',
        "defs.yaml:20: prompt.shots[0].answer: is missing; write `answer: ...` in `shots`",
    ),
    "a budget of no region": (
        BASE,
        f"{BASE}\n  budget_usd: {{thin: 1}}",
        "defs.yaml:18: budget_usd: names 'thin', which",
    ),
    "a budget in words": (
        BASE,
        f"{BASE}\n  budget_usd: little",
        "defs.yaml:18: budget_usd: must be a number, got 'little'",
    ),
    "a choice misspelt": (
        BASE,
        f"{BASE}\n  filtering: {{label_errors: quarentine}}",
        "label_errors: must be one of off, report, quarantine, got 'quarentine' (did you mean quarantine?)",
    ),
    "a check that takes no such word": (
        BASE,
        f"{BASE}\n  checks: {{no_leakage: fatal}}",
        "defs.yaml:18: checks.no_leakage: must be one of off, warn, error, got 'fatal'",
    ),
    "a deployment elsewhere than at Azure": (
        BASE,
        f"{BASE}\n  deployment: {{account: {ACCOUNT}, sku: Standard}}",
        "defs.yaml:18: deployment: is for the provider azure, not for local: leave it out",
    ),
    "a type misspelt": (
        "FineTuningTask",
        "FineTuneTask",
        "defs.yaml:1: type: is 'finetune_assets.pipeline.FineTuneTask'; a task is of `type: finetune_assets.pipeline.F",
    ),
    "no type": (
        SOUND.splitlines()[0],
        "",
        "defs.yaml:1: type: is missing; a task is of `type: finetune_assets.pipeline",
    ),
    "attributes misspelt": ("attributes:", "atributes:", "defs.yaml:3: atributes: there is no such key (did you mean"),
    "attributes that are a word": (
        "attributes:",
        "attributes: all\nmore:",
        "attributes: must be a mapping of `key: value`",
    ),
    "a key twice": (
        "  task: cells\n",
        "  task: cells\n  task: panels\n",
        "defs.yaml:5: task: is there twice, first in line 4; take one of them out",
    ),
    "a tab": ("  task: cells", "\ttask: cells", "defs.yaml:4: a tab; indent with spaces, found 'task: cells'"),
    "a colon in a text": (
        "  task: cells\n",
        "  task: cells\n  description: cells: mono and poly\n",
        "defs.yaml:5: a colon where no key can stand: if it belongs to a value put that in quotes",
    ),
    "a key without its colon": (
        "  task: cells",
        "  task cells",
        "for a missing colon in the line above, found 'regions:",
    ),
    "an indentation too deep": ("  regions:", "     regions:", "defs.yaml:5: a colon where no key can stand"),
    "an indentation too flat": (
        "    path:",
        "   path:",
        "defs.yaml:8: the line is indented otherwise than its neighbours",
    ),
    "a bracket left open": ("[mono, poly]", "[mono, poly", "defs.yaml:5: a bracket is not closed, or an entry lacks"),
    "a quote left open": ('positive: "Yes"', 'positive: "Yes', "defs.yaml:1"),
    "words behind braces": (
        BASE,
        f"{BASE}\n  prompt: {{user: x}} or so",
        "defs.yaml:18: something follows a closing quote or bracket; put the whole value in (other) quotes",
    ),
    "a star": ("cells.csv", "*.csv", "defs.yaml:8: a value that begins with * or & must be in quotes"),
    "a backslash": (
        "cells.csv",
        '"C:\\data\\cells.csv"',
        "defs.yaml:8: \\d means nothing inside of double quotes; use single",
    ),
    "a tag": (
        "cells.csv",
        "!!python/name:os.system",
        "defs.yaml:8: the tag tag:yaml.org,2002:python/name:os.system is not",
    ),
    "a merged block": (
        "  answer:\n",
        "  answer:\n    <<: {a: 1}\n",
        "defs.yaml:14: `<<` is not taken; write its keys out",
    ),
    "percent for a share": (
        "train: 0.3",
        "train: 30%",
        "sampling.train: must be a number, got '30%'; write 0.3 for 30 %",
    ),
    "percent above one": (
        BASE,
        f"{BASE}\n  benchmark: {{defer: {{target_accuracy: 95}}}}",
        "defs.yaml:18: benchmark.defer.target_accuracy: must be below 1, got 95; 95 % is 0.95",
    ),
    "a decimal comma": (
        "train: 0.3",
        "train: 0,3",
        "sampling.3: there is no such key: a comma begins the next key here",
    ),
    "a number with its unit": (
        BASE,
        f"{BASE}\n  budget_usd: 5 EUR",
        "defs.yaml:18: budget_usd: must be a number, got '5 EUR'; write 5, the number alone",
    ),
    "typographic quotes": ('"Yes"', "\u201eJa\u201c", "answer.positive: stands in typographic quotes, which belong"),
    "a blank behind a word": (
        'positive: "Yes"',
        'positive: "Yes "',
        "answer.positive: begins or ends with a blank, which would be learned as part of it; write 'Yes'",
    ),
    "a blank that nobody sees": (
        'positive: "Yes"',
        'positive: "Yes\u200b"',
        "answer.positive: begins or ends with a blank, which would be learned as part of it; write 'Yes'",
    ),
    "nothing but blanks": (
        'positive: "Yes"',
        'positive: " "',
        "answer.positive: is nothing but blanks; write the word",
    ),
    "a key by another tool's name": (
        "  source:\n",
        "  source:\n    group_column: id\n",
        "defs.yaml:7: source.group_column: there is no such key (did you mean group?); those there are: ",
    ),
    "nothing behind a key": (
        BASE,
        f"{BASE}\n  wandb:",
        "defs.yaml:18: wandb: has no value; write one behind the colon",
    ),
    "a comment for a value": (
        "cells.csv",
        "#1.csv",
        "got nothing; what follows a # is a comment: put '#1.csv' in quotes",
    ),
    "discover in brackets": (
        "[mono, poly]",
        "[discover]",
        "defs.yaml:5: regions: holds `discover` among its names; for all that the data has write it alone, without",
    ),
    "a mapping for a list": ("[mono, poly]", "{mono: 1, poly: 2}", "got a mapping with mono, poly; write [mono, poly]"),
    "a list for a mapping": (
        BASE,
        f"{BASE}\n  method: [n_epochs]",
        "its keys are type, n_epochs, batch_size, learning_rate_multiplier, seed, learning_rate, ",
    ),
    "a number for a list": (
        'kind: binary\n    positive: "Yes"\n    negative: "No"',
        "kind: score\n    levels: 5",
        "defs.yaml:15: answer.levels: must be a list, got 5; write [5]",
    ),
    "a sharp s": ("[mono, poly]", "[fu\u00df]", "got 'fu\u00df'; write fuss"),
    "no regions": (
        "  regions: [mono, poly]\n",
        "",
        "regions: is missing; write `regions: [...]` or `regions: discover`",
    ),
    "no cron expression": (
        BASE,
        f'{BASE}\n  rerun: {{schedule: "3 Uhr"}}',
        "defs.yaml:18: rerun.schedule: must be a cron expression of five fields (minute, hour, day of the month, month",
    ),
    "an hour that no day has": (
        BASE,
        f'{BASE}\n  rerun: {{schedule: "0 25 * * *"}}',
        "the hour must be *, or numbers f",
    ),
    "a language in words": (
        BASE,
        f"{BASE}\n  filtering: {{language: deutsch}}",
        "filtering.language: must be the code of a language (ISO 639-1), such as de for German, got 'deutsch'",
    ),
    "a shot that answers in other words": (
        BASE,
        f"{BASE}\n  prompt: {{shots: [{{question: 1 + 1, answer: Maybe}}]}}",
        "defs.yaml:18: prompt.shots: must be answered by Yes, No alone, got 'Maybe'",
    ),
    "a column in the prompt": (
        BASE,
        f"{BASE}\n  prompt: {{system: 'Look at {{file}}.'}}",
        'prompt.system: has "{file}", and columns are not filled in there; write it in source.question, which takes',
    ),
    "the question in the system message": (
        BASE,
        f"{BASE}\n  prompt: {{system: '{{question}}'}}",
        'prompt.system: has "{question}", which is filled in prompt.user alone',
    ),
    "an address without its scheme": (
        BASE,
        f"{BASE}\n  provider: localhost:8000/v1",
        "got 'localhost:8000/v1' (did you mean http://localhost:8000/v1?)",
    ),
    "a secret for a variable's name": (
        BASE,
        f"{BASE}\n  notify: {{slack: https://hooks.example/T0/B0}}",
        "and not what it holds, got a text of 27 characters",
    ),
    "a delimiter in words": (
        '    image: "{file}"',
        "    dialect: {delimiter: semicolon, decimal: comma}",
        'source.dialect.delimiter: must be one character, such as ";", or "\\t" for a tab, got \'semicolon\'',
    ),
    "a metric of other answers": (
        BASE,
        f"{BASE}\n  benchmark:\n    ask: auto\n    metric: token_f1",
        "defs.yaml:20: benchmark.metric: must be accuracy or balanced_accuracy where answer.kind is binary, got 'token",
    ),
    "a value that is no answer": (
        '    image: "{file}"',
        "    values: {0: Nope}",
        "defs.yaml:11: source.values: 'Nope' is no answer; they are Yes, No",
    ),
    "two documents, the second one broken": (
        "  base_model",
        "---\n  a: b: c\nbase_model",
        "defs.yaml:17: `---` begins a second document; one file is one task",
    ),
    "two documents": (
        "  base_model",
        "---\nbase_model",
        "defs.yaml:18: the file holds 2 documents; one file is one task",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_broken_file_is_told_by_line_and_key_with_what_to_do(name: str, tmp_path: Path) -> None:
    old, new, said = EDITS[name]
    assert SOUND.count(old) >= 1
    faults = refused(SOUND.replace(old, new, 1), tmp_path)
    assert said in "\n".join(faults)
    assert all("\n" not in fault and fault.startswith("defs.yaml:") for fault in faults)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "defs.yaml:1: the file is empty"),
        (b"# to be written\n", "defs.yaml:1: the file is empty"),
        (b"- type: x\n", "defs.yaml:1: must be a mapping with `type: finetune_assets.pipeline.FineTuningTask` and"),
        (b"a task\n", "and `attributes:`, found a text"),
        ("a: 1\nb: Größe\n".encode("latin-1"), "defs.yaml:2: is not UTF-8 (byte 0xf6); save the file as UTF-8"),
        (SOUND.encode("utf-16"), "defs.yaml:1: is not UTF-8 (byte 0xff)"),
        (b"a: b\x07c\n", "defs.yaml:1: the character number 0x7 cannot be in a YAML file"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "defs.yaml:1: the values are nested over 40 deep"),
        (b"a: &a\n  b: *a\n", "an alias stands inside of what it names"),
        (b"#" * (yaml_files.MAX_BYTES + 1), "has over 1,048,576 bytes; a task is a short text"),
    ],
)
def test_what_is_no_task_at_all_is_told_as_that(content: bytes, said: str, tmp_path: Path) -> None:
    assert said in "\n".join(refused(content, tmp_path))


def test_a_few_lines_that_stand_for_billions_of_values_are_refused_at_once(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    [fault] = refused(bomb, tmp_path)
    assert "the aliases of the file stand for over 10,000 values; write out what is meant" in fault


def test_all_faults_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = SOUND.replace("kind: binary", "kind: binery").replace("[mono, poly]", "[Mono, 3]").replace("0.05", "few")
    faults = refused(text + "  wandb: {}\n  wandb: {}\n", tmp_path)
    assert [fault.split(": ")[:2] for fault in faults] == [
        ["defs.yaml:5", "regions[0]"],
        ["defs.yaml:5", "regions[1]"],
        ["defs.yaml:12", "sampling.validation"],
        ["defs.yaml:14", "answer.kind"],
        ["defs.yaml:19", "wandb"],
        ["defs.yaml:19", "wandb.project"],
    ]


def test_the_faults_can_be_taken_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/defs.yaml").write_text(SOUND.replace("task: cells", "tsk: cells"))
    with pytest.raises(TaskFileError) as caught:
        read_task("cells", tmp_path)
    assert [fault.rpartition("/")[2].split(": ")[1] for fault in caught.value.faults] == ["task", "tsk"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(list(Task.model_fields)),
)
def test_whatever_stands_under_a_key_is_taken_or_told_and_nothing_else_is_raised(value: object, key: str) -> None:
    changed = yaml.safe_load(SOUND)
    changed["attributes"][key] = value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cells").mkdir()
        (Path(folder) / "cells/defs.yaml").write_text(yaml.safe_dump(changed, allow_unicode=True), encoding="utf-8")
        try:
            read_task("cells", Path(folder))
        except TaskFileError as error:
            assert all(fault.startswith(f"{folder}/cells/defs.yaml:") for fault in error.faults)
