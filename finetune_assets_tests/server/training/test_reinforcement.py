"""Learning from graded answers: the loss against TRL's and by hand, what is drawn, what is resumed, and that it learns.

`FINETUNE_ASSETS_LONG_TESTS=1` runs TRL's own trainer for its loss, and teaches the bundled model a real task.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from finetune_assets.errors import TrainingFileError
from finetune_assets.server.base_models import BaseModel, resolve
from finetune_assets.server.generation.requests import ModelRef
from finetune_assets.server.grading.graders import read
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.training.examples import Reader
from finetune_assets.server.training.feature_file import FeatureFile
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.reinforcement import Prompted, Reinforcement, Said, Sampling, advantages_of
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.rewards import Judge
from finetune_assets.server.training.watcher import TrainingResult
from finetune_assets.training_file import answer_grader
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.server.networks import bundled_vision_base, chat, hub_vision_base, picture, text_base
from finetune_assets_tests.server.watchers import Recorder

SAYS_E = {
    "type": "string_check", "name": "says e", "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
    "operation": "like",
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


def write_prompts(path: Path, prompts: list[tuple[Any, ...]], **fields: Any) -> Path:
    """A file of (question, answer to compare with) or these and an image."""
    rows = [{"messages": chat(asked, None, *image), "answer": answer} | fields for asked, answer, *image in prompts]
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


def request_for(folder: Path, base: BaseModel, **changes: Any) -> TrainingRequest:
    folder.mkdir(exist_ok=True)
    usual: dict[str, Any] = {
        "base": base, "adapter": None, "output": folder / "out", "state": folder / "state", "seed": 3,
        "training_file": write_prompts(folder / "t.jsonl", [(f"Is {n} fine?", "e") for n in range(6)]),
        "validation_file": write_prompts(folder / "v.jsonl", [(f"Is {n} good?", "e") for n in range(3)]),
        "method": "reinforcement", "grader": SAYS_E, "n_epochs": 2, "batch_size": 2, "learning_rate_multiplier": 30.0,
        "max_completion_tokens": 4,
    }  # fmt: skip
    return TrainingRequest(**usual | changes)


def run(request: TrainingRequest, **recorded: Any) -> tuple[TrainingResult | None, Recorder]:
    recorder = Recorder(**recorded)
    return train(request, recorder), recorder


def objective(network: Network, folder: Path, beta: float = 0.0) -> tuple[Reinforcement, list[Prompted]]:
    """One over three prompts, ready to be answered."""
    features = FeatureFile(network, folder / "features")
    found = Reinforcement(network, features, Judge(read(SAYS_E), {}), Sampling(n=4, max_tokens=5), beta)
    prompts = [("a?", "e"), ("Is a longer question fine, or is it not?", "e"), ("b?", "o")]
    items = found.read(Reader(network, features), write_prompts(folder / "p.jsonl", prompts))
    found.prepare(items, folder)
    return found, items


@pytest.fixture
def drawn(base: BaseModel) -> Network:
    """A network whose LoRA layers are drawn, so that all of them have gradients."""
    network = load(base)
    trained = adapters.add_trainable(network, None, with_images=False)["lora"]
    draw = torch.Generator().manual_seed(0)
    for weight in trained:
        weight.data.copy_(0.05 * torch.randn(weight.shape, generator=draw))
    return network


def logprobs(network: Network, said: Said) -> torch.Tensor:
    """Of the answer's tokens, by the whole model's own forward pass."""
    ids = said.example.ids.long()
    places = said.example.learned.nonzero().flatten()
    every = network.model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
    return every[places - 1, ids[places]]


def gradient(network: Network) -> torch.Tensor:
    found = [weight.grad.flatten() for weight in network.model.parameters() if weight.grad is not None]
    network.model.zero_grad()
    return torch.cat(found)


def learned(found: Reinforcement, items: list[Prompted]) -> tuple[float, torch.Tensor]:
    """Loss and gradient of a step, as the loop computes them."""
    terms, total = sum(map(found.count, items)), 0.0
    for part in found.parts(items):
        loss = found.losses(part)[0] / terms
        loss.backward()
        total += loss.item()
    return total, gradient(found._network)


def test_an_advantage_counts_standard_deviations_of_the_group() -> None:
    # Mean 0.25, deviations 0.75 and three times -0.25: variance (0.5625 + 3 * 0.0625) / 3 = 0.25.
    found = advantages_of(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert found.tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-3)
    assert advantages_of(torch.tensor([0.3, 0.3, 0.3])).tolist() == [0, 0, 0]


@pytest.mark.usefixtures("in_float32")
def test_the_gradient_is_that_of_the_advantages_times_log_probabilities(tmp_path: Path, drawn: Network) -> None:
    found, items = objective(drawn, tmp_path)
    rewards = found.answer(items, "seed")
    said = [each for item in items for each in item.said]
    for place, each in enumerate(said):
        each.advantage = [1.5, -0.5, 0.0, -1.0][place % 4]
    loss, moved = learned(found, items)
    terms = sum(int(each.example.learned.sum()) for each in said)
    assert terms == sum(map(found.count, items)) == rewards.completion_tokens * 12 + sum(_ended(drawn, e) for e in said)
    expected = sum((-each.advantage * logprobs(drawn, each).sum() for each in said), torch.zeros(())) / terms
    expected.backward()
    assert torch.allclose(moved, gradient(drawn), atol=1e-5)
    assert loss == pytest.approx(sum(-e.advantage * int(e.example.learned.sum()) for e in said) / terms, abs=1e-5)


def _ended(network: Network, said: Said) -> bool:
    """Whether an answer ends by itself, by a token that is learned too."""
    return int(said.example.ids[-1]) in network.end_ids


@pytest.mark.usefixtures("in_float32")
def test_beta_adds_the_divergence_from_the_model_before_training(tmp_path: Path, drawn: Network) -> None:
    found, items = objective(drawn, tmp_path, beta=0.3)
    found.answer(items, "seed")
    said = [each for item in items for each in item.said]
    before = [logprobs(drawn, each).detach() for each in said]
    for each in said:
        each.advantage = 0.0
    assert learned(found, items)[0] == pytest.approx(0, abs=1e-6)
    for weight in drawn.model.parameters():
        if weight.requires_grad:
            weight.data *= 1.5
    loss, moved = learned(found, items)
    terms = sum(map(found.count, items))
    now = [logprobs(drawn, each) for each in said]
    behind = [past - present for past, present in zip(before, now, strict=True)]
    ratios = [(present - present.detach()).exp() for present in now]
    divergence = [(ratio * (each.exp() - each - 1)).sum() for ratio, each in zip(ratios, behind, strict=True)]
    expected = 0.3 * sum(divergence, torch.zeros(())) / terms
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-3)
    assert loss > 0
    assert torch.allclose(moved, gradient(drawn), atol=1e-5)


def test_answers_are_drawn_by_the_seed_and_from_the_model_as_it_is(tmp_path: Path, drawn: Network) -> None:
    found, items = objective(drawn, tmp_path)

    def answers(seed: str) -> list[list[int]]:
        found.answer(items, seed)
        return [each.example.ids.tolist() for item in items for each in item.said]

    first = answers("a")
    assert answers("b") != first == answers("a")
    assert len({tuple(ids) for ids in first}) > 6
    for weight in drawn.model.parameters():
        if weight.requires_grad:
            weight.data *= -3
    assert answers("a") != first


@pytest.mark.usefixtures("in_float32")
def test_answers_with_equal_rewards_teach_nothing(tmp_path: Path, base: BaseModel) -> None:
    same = SAYS_E | {"reference": ""}
    result, recorder = run(request_for(tmp_path, base, grader=same, n_epochs=1))
    assert result is not None
    assert [step.train_rewards.mean for step in recorder.steps if step.train_rewards] == [1.0] * 3
    rewarded = adapters.read_projector(load(base), result.model_dir)
    assert rewarded is None
    from safetensors.torch import load_file

    weights = load_file(result.model_dir / "adapter_model.safetensors")
    assert all(not bool(held.any()) for name, held in weights.items() if "lora_B" in name)


def test_an_interrupted_training_gives_the_weights_of_an_undisturbed_one(tmp_path: Path, base: BaseModel) -> None:
    def weights(name: str, *stops: dict[str, int]) -> bytes:
        request = request_for(tmp_path / name, base)
        for stop in stops:
            if "die_after" in stop:
                with pytest.raises(KeyboardInterrupt):
                    run(request, **stop)
            else:
                assert run(request, **stop)[0] is None
        result, _ = run(request)
        assert result is not None
        return (result.model_dir / "adapter_model.safetensors").read_bytes()

    assert weights("disturbed", {"stop_after": 1}, {"die_after": 3}) == weights("whole")


def test_training_rests_as_often_as_it_is_asked_to(tmp_path: Path, base: BaseModel) -> None:
    _, recorder = run(request_for(tmp_path, base, eval_interval=4, eval_samples=2))
    assert [step.step for step in recorder.steps if step.valid_rewards] == [4, 6]
    assert [step.step for step in recorder.steps if step.checkpoint] == [4, 6]
    settings = recorder.steps[-1]
    assert settings.train_rewards is not None
    assert settings.train_rewards.completion_tokens <= 4


def test_answers_may_have_to_fit_a_schema(tmp_path: Path, base: BaseModel) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["e", "o"]}}, "required": ["a"]} | {
        "additionalProperties": False
    }
    grader = SAYS_E | {"input": "{{sample.output_json.a}}", "operation": "eq"}
    request = request_for(
        tmp_path, base, grader=grader, json_schema=schema, max_completion_tokens=40, n_epochs=1, validation_file=None
    )
    _, recorder = run(request)
    rewards = [step.train_rewards for step in recorder.steps if step.train_rewards]
    assert 0 < sum(each.mean for each in rewards) < 3
    assert all(not each.errors and not each.cut for each in rewards)


def test_images_are_shown_and_what_sees_them_learns(tmp_path: Path) -> None:
    prompts = [("Red?", "e", picture(colour)) for colour in ("red", "blue", "red", "blue")]
    file = write_prompts(tmp_path / "images.jsonl", prompts)
    request = request_for(tmp_path, bundled_vision_base(tmp_path), training_file=file, validation_file=None, n_epochs=1)
    result, _ = run(request)
    assert result is not None
    assert (result.model_dir / "projector.safetensors").exists()


def test_a_model_with_a_processor_of_its_own_is_refused_by_name(tmp_path: Path) -> None:
    file = write_prompts(tmp_path / "images.jsonl", [("Red?", "e", picture("red"))])
    with pytest.raises(TrainingFileError, match="'tiny-llava', which sees by a processor of its own"):
        run(request_for(tmp_path, hub_vision_base(tmp_path), training_file=file, validation_file=None))


def test_a_grader_may_ask_a_model(tmp_path: Path, base: BaseModel) -> None:
    asks: dict[str, Any] = {
        "type": "score_model", "name": "judge", "model": "it", "sampling_params": {"max_completions_tokens": 3},
        "input": [{"role": "user", "content": "How good is {{sample.output_text}}?"}],
    }  # fmt: skip
    both = {"type": "multi", "name": "both", "graders": {"a": SAYS_E, "b": asks}, "calculate_output": "a - b"}
    _, recorder = run(request_for(tmp_path, base, grader=both, models={"it": ModelRef(base, None)}, n_epochs=1))
    rewards = recorder.steps[-1].train_rewards
    assert rewards is not None
    assert rewards.by_grader == {"a": rewards.mean, "b": 0}
    assert rewards.errors == {"model_grader_parse_error": 1}


@long
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_loss_and_gradient_are_those_of_trl(tmp_path: Path, drawn: Network, beta: float) -> None:
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    found, items = objective(drawn, tmp_path, beta=beta)
    found.answer(items, "seed")
    said = [each for item in items for each in item.said]
    rewards = torch.rand(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    advantages = torch.cat([advantages_of(group) for group in rewards.split(4)]).float()
    for each, advantage in zip(said, advantages.tolist(), strict=True):
        each.advantage = advantage
    before = [logprobs(drawn, each).detach() for each in said]
    for weight in drawn.model.parameters():
        if weight.requires_grad:
            weight.data *= 1.5
    loss, moved = learned(found, items)

    config = GRPOConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=12, num_generations=4, loss_type="dapo",
        beta=beta, report_to=[], use_cpu=True, bf16=False, max_completion_length=5,
    )  # fmt: skip
    trainer = GRPOTrainer(
        drawn.model, lambda completions, **_: [0.0] * len(completions), args=config,
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 12), processing_class=drawn.tokenizer,
    )  # fmt: skip
    drawn.model.eval()
    prompts = [each.example.ids[~each.example.learned].long() for each in said]
    answers = [each.example.ids[each.example.learned].long() for each in said]
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones(len(ids), dtype=torch.long) for ids in answers], batch_first=True)
    inputs = {
        "prompt_ids": pad(prompts, batch_first=True, padding_side="left"),
        "prompt_mask": pad(
            [torch.ones(len(ids), dtype=torch.long) for ids in prompts], batch_first=True, padding_side="left"
        ),
        "completion_ids": pad(answers, batch_first=True), "completion_mask": mask, "advantages": advantages,
        "num_items_in_batch": mask.sum(), "ref_per_token_logps": pad(before, batch_first=True),
    }  # fmt: skip
    theirs = trainer._compute_loss(drawn.model, inputs)
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), abs=1e-5)
    assert torch.allclose(moved, gradient(drawn), atol=1e-5)


ANIMALS = """dog cat horse cow lion tiger wolf fox bear rabbit mouse sheep goat monkey elephant giraffe zebra camel deer
    eagle owl hawk crow parrot shark whale dolphin salmon frog snake lizard turtle ant bee spider beetle squirrel otter
    seal moose""".split()  # noqa: SIM905
FOODS = """bread cheese apple rice soup pizza cake butter banana noodle sandwich pasta yogurt carrot potato tomato onion
    cookie pie honey jam chocolate omelette salad pancake waffle muffin bagel cereal lemon grape peach melon cherry plum
    bean pea cabbage spinach garlic""".split()  # noqa: SIM905


@long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_bundled_model_learns_a_task_that_only_a_grader_tells_it(tmp_path: Path, seed: int) -> None:
    asked = "Is '{}' an animal or a food? Answer with one word, animal or food."
    draw = random.Random(0)
    for words in (animals := ANIMALS.copy(), foods := FOODS.copy()):
        draw.shuffle(words)

    def prompts(name: str, start: int, end: int) -> Path:
        kinds = {"animal": animals[start:end], "food": foods[start:end]}
        return write_prompts(
            tmp_path / name, [(asked.format(word), kind) for kind, words in kinds.items() for word in words]
        )

    request = request_for(
        tmp_path, resolve("smollm2-135m-instruct", tmp_path), seed=seed, n_epochs=6, batch_size=4, eval_interval=10,
        learning_rate_multiplier=1.0, training_file=prompts("train.jsonl", 0, 20), grader=answer_grader.grader(),
        validation_file=prompts("held-out.jsonl", 24, 36),
    )  # fmt: skip
    _, recorder = run(request)
    told = [step.valid_rewards.by_grader["exact"] for step in recorder.steps if step.valid_rewards]
    print(f"seed {seed}: right on 24 held-out words after each 10 steps: {[round(each, 3) for each in told]}")
    assert told[0] < 0.5 < 0.8 < told[-1]
