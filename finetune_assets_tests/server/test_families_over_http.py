"""The same families over HTTP, as a user meets them: trained, asked, decided about by the benchmark, exported.

Long: a training process and an export for each of some sixty models.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from finetune_assets.asking.predictions import settings
from finetune_assets.evaluation.answers import Reading, read
from finetune_assets.provider.asking import ask_all
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.export import export
from finetune_assets.server.generation.option_trie import normalised
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server.api.test_tools import tuned
from finetune_assets_tests.server.families import IMAGES, TEXT, image_model, text_model
from finetune_assets_tests.server.families.reference import Reference
from finetune_assets_tests.server.networks import computing_in
from finetune_assets_tests.server.test_families import COLOURS, OPTIONS, REFUSED, TOLERANCE, multi_turn, training_file
from finetune_assets_tests.server_process import ServerProcess, make_home

pytestmark = [
    long,
    pytest.mark.usefixtures("in_float32"),
]
WORDS = tuple(COLOURS.values())


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that computes in float32."""
    with computing_in("float32"), ServerProcess(make_home(tmp_path_factory.mktemp("exact"))) as running:
        yield running


def configured(server: ServerProcess, base: BaseModel) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in base.name.lower())
    with (server.home / "models.yaml").open("a") as names:
        names.write(yaml.safe_dump({name: base.path}))
    return name


def check_over_http(server: ServerProcess, base: BaseModel, folder: Path) -> None:
    """Trained, exported, and what is answered and decided is what transformers and PEFT say of the export."""
    client, name = server.client(), configured(server, base)
    lines = training_file(sees=base.vision).decode().splitlines()
    model = tuned(client, name, lines, {"n_epochs": 10, "batch_size": 2, "learning_rate_multiplier": 8})
    assert export(server.home, model, folder / "exported").holds
    messages, shown = multi_turn("red", sees=base.vision)[:-1], ("red",) if base.vision else ()
    check_answers(client, name, messages, Reference(base), shown)
    check_answers(client, model, messages, Reference(base, folder / "exported"), shown)
    for ask in ("decisions", "completions"):
        found = as_the_benchmark_reads(client, model, messages, WORDS, ask)
        assert found.predicted in WORDS, ask
        assert found.probabilities is not None, ask
        assert max(found.probabilities, key=found.probabilities.__getitem__) == found.predicted, ask


def check_answers(client: Any, model: str, messages: list[Any], reference: Reference, shown: tuple[str, ...]) -> None:
    prompt = reference.prompt(messages)
    answer = client.chat.completions.create(
        model=model, messages=messages, temperature=0, logprobs=True, top_logprobs=5, max_tokens=12
    ).choices[0]  # fmt: skip
    top = [token.logprob for token in answer.logprobs.content[0].top_logprobs]
    assert top == pytest.approx(reference.likeliest(prompt, shown), abs=TOLERANCE)
    weighed = as_the_benchmark_reads(client, model, messages, OPTIONS, "decisions").probabilities
    expected = normalised(reference.options(prompt, OPTIONS, shown))
    assert weighed == pytest.approx(dict(zip(OPTIONS, expected, strict=True)), abs=TOLERANCE)
    if model.startswith("ft:"):
        assert (answer.finish_reason, answer.message.content.strip() in WORDS) == ("stop", True)


def as_the_benchmark_reads(
    client: Any, model: str, messages: list[Any], options: tuple[str, ...], ask: Literal["decisions", "completions"]
) -> Reading:
    answer = {"kind": "choice", "options": options}
    source = {"kind": "table", "path": "rows.jsonl", "region": "mono"}
    task = make_task(source=source, answer=answer, benchmark={"ask": ask})
    (reply,) = ask_all(client, settings(task, options, model), [messages])
    assert reply.error is None
    return read(reply.text, reply.tokens, task.answer, probabilities=reply.probabilities)


@pytest.mark.parametrize("name", [name for name in TEXT if not TEXT[name].unfit])
def test_a_text_model_is_trained_asked_and_exported(exact: ServerProcess, tmp_path: Path, name: str) -> None:
    check_over_http(exact, text_model(name, tmp_path), tmp_path)


@pytest.mark.parametrize("name", [name for name in IMAGES if name not in REFUSED])
def test_an_image_model_is_trained_asked_and_exported(exact: ServerProcess, tmp_path: Path, name: str) -> None:
    check_over_http(exact, image_model(name, tmp_path), tmp_path)
