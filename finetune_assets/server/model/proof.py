"""The self-test of a model at load: its parts must give the logits of the whole, and the whole must continue a text.

A model that sees is shown one picture and two: what is made of them must be what its own processor makes, and what it
answers the logits of its own `generate`.

What is not shown here is not used: a model whose parts differ is served and trained by its own forward alone, and one
that cannot be trusted even so is refused, with what was found.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from finetune_assets.server.model import horizons
from finetune_assets.server.model.chat_encoding import ImageFeatures, Sequence, encode_prompt
from finetune_assets.server.model.chat_template import PromptError
from finetune_assets.server.model.own_forward import Continuation, logits_at

if TYPE_CHECKING:
    from finetune_assets.server.model.network import Network

_LENGTHS, _SHARED = (40, 23), 9
_TOLERANCE = {torch.float32: 1e-4}
_COARSE = 3e-2
"""Of types with fewer digits than float32; a scale or a cap that is left out changes far more."""
_QUESTION, _WRITTEN = "What is it?", 3
_PICTURES = (("red", (64, 48)), ("blue", (40, 56)))
_SELECTING = "index_topk"
"""Settings of attention that looks at a selection of what was said before; no trial of a few tokens tells about it."""


@torch.no_grad()
def differs(network: Network) -> str | None:
    """Why a model may not be taken apart; None where it may."""
    if network.front.processor is not None:
        return "its images go through its own forward"
    if any(_SELECTING in name for name, _ in _settings(network.model.config.to_dict())):
        return "its attention selects what it looks at"
    if kinds := horizons.rope_kinds(network.model.config):  # neighbours would change each other's answers
        return f"its positions ({kinds[0]}) depend on the longest row of a batch"
    try:
        return _differs(network) or _differs_beyond(network)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a family's code does, it shows that the parts do not fit
        return f"its parts do not work alone ({type(error).__name__})"


def _differs(network: Network) -> str | None:
    rows = _rows(network)
    whole = [_all_logits(network, row) for row in rows]
    flat: list[bool] = []
    hooks = [m.register_forward_pre_hook(lambda _m, given: flat.append(given[0].ndim == 2)) for m in _linears(network)]
    embedded = network.embed([row.tolist() for row in rows], [[] for _ in rows])
    for shared in (0, _SHARED):
        logits = network.logits(network.states(embedded, shared))
        for row, (own, length) in enumerate(zip(whole, _LENGTHS, strict=True)):
            if not close(logits[row, : length - shared], own[shared:]):
                return "its logits differ when it is taken apart"
    for hook in hooks:
        hook.remove()
    # Then a row of a batch is no longer a row there, and a fine-tuned model could not be told from its neighbour.
    return "it mixes the rows of a batch" if any(flat) else None


def _differs_beyond(network: Network) -> str | None:
    """The same for rows that are longer than a window of the model, for example."""
    for name in horizons.horizons(network):
        with horizons.brought_near(network, name):
            if found := _differs(network):
                return f"beyond its {name} {found}"
    return None


@torch.no_grad()
def fails(network: Network) -> str | None:
    """What of the model's own forward is wrong; None where a text that grows is as the text read at once."""
    row = _rows(network)[0][:12]
    try:
        at_once = _all_logits(network, row)
        grown = Continuation(network.model, row[:9], {})
        steps = [grown.step(), *(grown.step(int(token)) for token in row[9:])]
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the family's code; its words say what is missing
        return f"it does not run ({type(error).__name__}: {str(error)[:300]})"
    if not at_once.isfinite().all():
        return "its logits are not finite"
    return (
        None if close(torch.stack(steps), at_once[8:]) else "a text that grows has other logits than the same at once"
    )


@torch.no_grad()
def misreads(network: Network) -> str | None:
    """What is wrong with how a model that has a processor sees; None where all is as its makers meant.

    One that takes a single image only is not wrong: a request with two is refused then.
    """
    for n_images in (1, 2):
        shown = "with 1 image" if n_images == 1 else f"with {n_images} images"
        try:
            if problem := _misread(network, _PICTURES[:n_images]):
                return f"{shown}, {problem}"
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except PromptError as error:
            if n_images == 1:
                return f"{shown}, {error}"
        except Exception as error:  # noqa: BLE001 - as in `fails`
            return f"{shown}, it does not run ({type(error).__name__}: {str(error)[:300]})"
    return None


def _misread(network: Network, pictures: tuple[tuple[str, tuple[int, int]], ...]) -> str | None:
    shown = [Image.new("RGB", size, colour) for colour, size in pictures]
    made = _encoded(network, shown)
    own = _own_inputs(network, shown)
    ids = torch.tensor(made.ids)
    if made.ids != own["input_ids"][0].tolist():
        return "its tokens are not those of its own processor"
    for name, value in own.items():
        if name not in ("input_ids", "attention_mask") and not torch.equal(made.extras[name], value):
            return f"its {name} are not those of its own processor"
    logits, answer = _generated(network, own)
    grown = Continuation(network.model, ids, made.extras)
    steps = [grown.step(), *(grown.step(int(token)) for token in answer[:-1])]
    if not close(torch.stack(steps), logits):
        return "its answer has other logits than its own generate gives"
    whole, places = torch.cat([ids, answer[:-1]]), torch.arange(len(ids) - 1, len(ids) + _WRITTEN - 1)
    if not close(logits_at(network.model, whole, made.extras, places), logits):
        return "an answer that is learned has other logits than one that is asked for"
    return None


def pictured(network: Network) -> Sequence:
    """A question with one picture, as it is asked here."""
    return _encoded(network, [Image.new("RGB", size, colour) for colour, size in _PICTURES[:1]])


def _encoded(network: Network, shown: list[Image.Image]) -> Sequence:
    urls = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in shown]
    asked = [{"role": "user", "content": [{"type": "text", "text": _QUESTION}, *urls]}]
    return encode_prompt(network, asked, ImageFeatures(network))


def _own_inputs(network: Network, shown: list[Image.Image]) -> dict[str, Tensor]:
    """What the processor itself makes of the question, without a line of this server's encoding."""
    parts = [{"type": "text", "text": _QUESTION}, *({"type": "image"} for _ in shown)]
    text = network.template.prompt([{"role": "user", "content": parts}])
    begun = network.tokenizer.bos_token and text.startswith(network.tokenizer.bos_token)
    how = {"add_special_tokens": False} if begun else {}
    made = network.front.processor(text=[text], images=shown, return_tensors="pt", **how)
    return {name: value for name, value in made.items() if isinstance(value, Tensor)}


def _generated(network: Network, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits `[w, vocabulary]` and tokens `[w]`, ordinary ones, of an answer's beginning by the model's `generate`."""
    model = network.model
    placed = {name: value.to(model.device) for name, value in inputs.items()}
    placed = {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in placed.items()}
    how: dict[str, Any] = {"max_new_tokens": _WRITTEN, "min_new_tokens": _WRITTEN, "output_logits": True}
    how["suppress_tokens"] = sorted(_special(network))  # one that stands for an image would want another image
    written = model.generate(**placed, **how, do_sample=False, num_beams=1, return_dict_in_generate=True)
    return torch.cat(written.logits), written.sequences[0, -_WRITTEN:].cpu()


def _data_url(image: Image.Image) -> str:
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


def close(found: Tensor, expected: Tensor) -> bool:
    """Whether logits mean the same probabilities, as far as the precision tells."""
    found, expected = found.float().log_softmax(-1), expected.float().log_softmax(-1)
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    return bool((found - expected).norm() <= _tolerance() * spread)


def _tolerance() -> float:
    from finetune_assets.server.model.precision import device_and_dtype

    return _TOLERANCE.get(device_and_dtype()[1], _COARSE)


def _all_logits(network: Network, row: Tensor) -> Tensor:
    return logits_at(network.model, row, {}, torch.arange(len(row)))


def _rows(network: Network) -> list[Tensor]:
    """Two rows of ordinary tokens that begin alike and are not of the same length."""
    drawn = ordinary_tokens(network, sum(_LENGTHS))
    first, second = drawn[: _LENGTHS[0]], drawn[_LENGTHS[0] :]
    second[:_SHARED] = first[:_SHARED]
    return [first, second]


def ordinary_tokens(network: Network, n: int) -> Tensor:
    """Draw n tokens `[n]` that are text, always the same."""
    special = _special(network)
    usual = [token for token in range(min(len(network.tokenizer), network.vocabulary)) if token not in special]
    return torch.tensor(usual)[torch.randint(len(usual), (n,), generator=torch.Generator().manual_seed(0))]


def _special(network: Network) -> set[int]:
    return set(network.tokenizer.all_special_ids) | set(network.tokenizer.added_tokens_decoder)


def _linears(network: Network) -> list[Any]:
    return [module for module in network.decoder.modules() if isinstance(module, torch.nn.Linear)]


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of any depth."""
    if isinstance(value, dict):
        for name, held in value.items():
            yield str(name), held
            yield from _settings(held)
