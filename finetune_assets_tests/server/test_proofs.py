"""Models of `models.yaml` are tried before anybody asks for them; what is refused is said, and nowhere offered."""

from __future__ import annotations

import json
import os
import queue
from pathlib import Path

import openai
import pytest

from finetune_assets import doctor
from finetune_assets.server import proofs
from finetune_assets.server.proofs import Proof
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.server.families import text_model
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import write_text_model

REFUSED = "'untuned' has no chat template; use an instruction-tuned model"


def make_home(home: Path) -> Path:
    """A home with a model that is right, one without a chat template, one that PEFT cannot train, and mere names."""
    right, untuned = write_text_model(home / "right"), write_text_model(home / "untuned")
    settings = json.loads((untuned / "tokenizer_config.json").read_text())
    (untuned / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": None}))
    mamba = text_model("Mamba 2", home / "mamba").path
    names = f"right: {right}\nalias: right\nuntuned: {untuned}\nmamba: {mamba}\nfar: somebody/something\nround: round\n"
    (home / "models.yaml").write_text(f"{names}small: smollm2-135m-instruct\n")
    return home


def states(home: Path) -> dict[str, str]:
    return {proof.name: proof.state for proof in proofs.proofs(home)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_home(tmp_path_factory.mktemp("home"))
    before = dict.fromkeys(("right", "alias", "untuned", "mamba"), "untried") | {
        "far": "absent",
        "round": "refused",
    }
    assert states(made) == before
    proofs._prove("right", made)
    proofs._prove("mamba", made)
    told: queue.Queue[str] = queue.Queue()
    with proofs.proving(made, told.put):
        assert told.get(timeout=PATIENCE_S) == f"Refused:            untuned: {REFUSED}"
    return made


def test_what_was_tried_is_known_under_all_names_and_after_a_restart(home: Path) -> None:
    untrainable = proofs.job_refusal("mamba", home) or ""
    assert untrainable.startswith("it cannot be fine-tuned (ValueError")
    assert proofs.proofs(home) == [
        Proof("right", "passed"),
        Proof("alias", "passed"),
        Proof("untuned", "refused", REFUSED),
        Proof("mamba", "untrainable", untrainable),
        Proof("far", "absent"),
        Proof("round", "refused", f"{home / 'models.yaml'}: 'round' leads back to itself"),
    ]
    assert proofs.refusal("untuned", home) == REFUSED
    assert [proofs.refusal(name, home) for name in ("alias", "mamba", "far", "small", "unknown")] == [None] * 5


def test_a_model_whose_files_or_precision_change_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = home / "right" / "model.safetensors"
    before = weights.stat()
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert states(home)["alias"] == "untried"
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert states(home)["alias"] == "passed"
    monkeypatch.setenv(
        "FINETUNE_ASSETS_DTYPE", "bfloat16" if os.environ.get("FINETUNE_ASSETS_DTYPE") != "bfloat16" else "float32"
    )
    assert states(home)["alias"] == "untried"


def test_the_server_says_at_its_start_what_it_refuses_and_offers_it_nowhere(home: Path) -> None:
    with ServerProcess(home) as server:
        client = server.client()
        assert f"Refused:            untuned: {REFUSED}\n" in server.greeting
        assert "right, alias, mamba, far, small\n" in server.greeting
        listed = [model.id for model in client.models.list()]
        assert "alias" in listed and not {"untuned", "round"} & set(listed)
        with pytest.raises(openai.NotFoundError, match="has no chat template") as not_found:
            client.models.retrieve("untuned")
        file = client.files.create(file=("train.jsonl", b"{}"), purpose="fine-tune")
        with pytest.raises(openai.BadRequestError, match="has no chat template") as refused:
            client.fine_tuning.jobs.create(model="untuned", training_file=file.id)
        assert not_found.value.code == refused.value.code == "model_not_usable"


def test_a_model_that_cannot_be_trained_is_listed_as_such_answers_and_takes_no_job(home: Path) -> None:
    with ServerProcess(home) as server:
        client = server.client()
        told = {model.id: (model.model_extra or {}).get("fine_tuning_refused") for model in client.models.list()}
        assert told["right"] is None
        assert (told["mamba"] or "").startswith("it cannot be fine-tuned")
        file = client.files.create(file=("train.jsonl", b"{}"), purpose="fine-tune")
        with pytest.raises(openai.BadRequestError, match="refused for jobs by this server: it cannot be fine-tuned"):
            client.fine_tuning.jobs.create(model="mamba", training_file=file.id)
        said = client.chat.completions.create(model="mamba", messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
        assert said.usage is not None
        assert said.usage.completion_tokens > 0


def test_the_doctor_says_which_models_have_passed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "HOME", home)
    found = {finding.what: (finding.state, finding.words) for finding in doctor._configured_models()}
    assert found["model right"] == ("good", "has passed the self-test on this machine")
    assert found["model untuned"] == ("bad", f"refused: {REFUSED}")
    assert found["model far"][0] == "warning"
    assert found["model mamba"][0] == "warning"
    assert found["model mamba"][1].startswith("answers, and takes no jobs: it cannot be fine-tuned")


def test_a_server_that_ends_leaves_what_is_being_tried_untried(tmp_path: Path) -> None:
    made = make_home(tmp_path / "home")
    told: list[str] = []
    with proofs.proving(made, told.append):
        pass
    assert told == []
    assert states(made)["right"] == "untried"
