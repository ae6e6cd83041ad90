"""Hands answers over to vLLM: it chooses the tokens, and this server does all else.

The prompt is ours, token by token, and so is the reading of what comes: end tokens, stop sequences, thoughts and limits
are found in vLLM's tokens as in our engine's own. So a text that spells a control token is none here either, and an
answer that vLLM breaks off is continued by our own engine from the token at which it stands: none is lost, and no piece
of it is sent twice.

Our own engine keeps what vLLM's tokens cannot carry: images and trained projectors, schemas and functions (whose
grammar is ours), `logit_bias` (whose -100 is a ban), scored prompts, and a seed with a temperature, which promises the
same answer whoever gives it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2

from finetune_assets.errors import BaseModelError
from finetune_assets.server import base_models, proofs
from finetune_assets.server.base_models import BUNDLED, BaseModel
from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.completion import Completion
from finetune_assets.server.generation.next_tokens import NextToken
from finetune_assets.server.generation.sampling import GREEDY, TokenLogprob
from finetune_assets.server.generation.tokens import TokenTexts
from finetune_assets.server.generation.vllm_connection import (
    AdapterRefusedError,
    VllmAnswerError,
    VllmConnection,
    VllmToken,
)
from finetune_assets.server.generation.vllm_process import VllmProcess
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.precision import device_and_dtype

_COOLEST = 0.01
"""The lowest temperature that vLLM has beside 0."""

logger = logging.getLogger(__name__)


class Handover:
    """The vLLM processes of a server, one for each base model that vLLM may serve.

    Args:
        home: the server's folder.
        command: as `vllm_command` returns it.
    """

    def __init__(self, home: Path, command: Sequence[str]) -> None:
        self._home = home
        self._command = command
        self._processes: dict[str, VllmProcess] = {}
        self._refused: dict[Path, str] = {}
        """Why an adapter, by its folder, is not vLLM's."""
        self.requests = Counter({"answered": 0, "given_back": 0})
        """How many vLLM answered to the end, and with how many our own engine had to go on."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vLLM", daemon=True)

    def start(self) -> None:
        """Start a vLLM for each base model that it may serve; until one answers, our own engine does."""
        self._thread.start()
        dtype = str(device_and_dtype()[1]).removeprefix("torch.")
        for base in _bases(self._home):
            if why_own(base) is None and base.weights not in self._processes:
                log = self._home / "vllm" / f"{len(self._processes)}-{base.name.replace('/', '--')}.log"
                self._processes[base.weights] = process = VllmProcess(base, self._command, dtype, log)
                process.start()

    def stop(self) -> None:
        """End all of them, and whatever they have started."""
        for process in self._processes.values():
            process.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def why_own(self, base: BaseModel, adapter: Path | None) -> str | None:
        """Say why our own engine answers for a model now; None: vLLM does."""
        if reason := why_own(base):
            return reason
        process = self._processes.get(base.weights)
        if process is None:
            return "it was not in models.yaml when the server was started"
        if process.refused is not None:
            return process.refused
        if process.connection is None:
            return "its vLLM is being started"
        return None if adapter is None else self._refused.get(adapter)

    def take(self, completion: Completion, network: Network, give_back: Callable[[], None]) -> bool:
        """Begin to answer a request, where vLLM can.

        Args:
            completion: its prompt is ready, and nothing of its answers is made.
            network: of the base model.
            give_back: called once when vLLM has done what it could: all answers are complete, or our own engine must
                go on with those that are not.

        Returns:
            Whether it was taken. If not, `give_back` is not called.
        """
        model = completion.request.model
        process = self._processes.get(model.base.weights)
        if process is None or (connection := process.connection) is None:
            return False
        if model.adapter in self._refused or not carries(completion, network):
            return False
        work = _Work(completion, network, connection)
        running = asyncio.run_coroutine_threadsafe(self._answer(work, process), self._loop)
        running.add_done_callback(lambda _: give_back())
        # Whoever asked may be gone at any time; vLLM then stops when the connection is closed.
        completion.future.add_done_callback(lambda _: running.cancel())
        return True

    async def _answer(self, work: _Work, process: VllmProcess) -> None:
        name, model = process.base.name, work.completion.request.model
        try:
            await work.do()
        except AdapterRefusedError as error:
            if model.adapter is not None:
                self._refused[model.adapter] = str(error)
            logger.warning("%s, of %s; our own engine answers for it", error, name)
        except httpx2.TimeoutException:
            logger.warning("The vLLM of %s has said nothing for too long and is started again", name)
            process.end_process()
        except VllmAnswerError as error:
            logger.warning("%s, as %s; our own engine goes on", error, name)
        except httpx2.HTTPError as error:
            # One line for each would be hundreds when it dies, whose end is told of itself.
            logger.debug("%s: %s", name, error)
        self.requests["given_back" if work.completion.growing else "answered"] += 1


class _Work:
    """The answers to one request, as vLLM makes them."""

    def __init__(self, completion: Completion, network: Network, connection: VllmConnection) -> None:
        self.completion = completion
        self._network, self._connection = network, connection
        self._texts = TokenTexts(network.tokenizer) if completion.request.logprobs else None

    async def do(self) -> None:
        """Make all answers, side by side. What fails is raised once the others have come to their end."""
        completion = self.completion
        name = completion.request.model.base.name
        if completion.adapter is not None and completion.request.model.adapter is not None:
            name = await self._connection.register(completion.adapter.key, completion.request.model.adapter)
        growing = [self._grow(answer, name) for answer in completion.growing]
        for failure in await asyncio.gather(*growing, return_exceptions=True):
            if failure is not None:
                raise failure

    async def _grow(self, answer: Answer, name: str) -> None:
        completion, ends = self.completion, self._network.end_ids
        async for piece in self._connection.tokens(self._asked(answer, name)):
            if completion.over:
                return
            if isinstance(piece, int):
                completion.cached_tokens = max(piece, completion.cached_tokens or 0)
            elif answer.finish_reason is None:
                try:
                    answer.take(NextToken(piece.id, self._logprob(piece)), ends=piece.id in ends)
                except Exception as error:  # noqa: BLE001 - a listener failed: that ends its own request, no other
                    completion.fail(error)

    def _asked(self, answer: Answer, name: str) -> dict[str, Any]:
        request = self.completion.request
        asked: dict[str, Any] = {
            "model": name, "prompt": self.completion.prompt.ids, "max_tokens": answer.room, "top_p": request.top_p,
            "temperature": request.temperature if request.temperature >= GREEDY else 0.0,
            "presence_penalty": request.presence_penalty, "frequency_penalty": request.frequency_penalty,
            "stop_token_ids": sorted(self._network.end_ids), "ignore_eos": True,
        }  # fmt: skip
        return asked | ({"logprobs": request.top_logprobs} if request.logprobs else {})

    def _logprob(self, token: VllmToken) -> TokenLogprob | None:
        if self._texts is None or token.logprob is None:
            return None
        text, data = self._texts.of(token.id)
        likeliest = token.top[: self.completion.request.top_logprobs]
        top = [(self._texts.of(one)[0], logprob, self._texts.of(one)[1]) for one, logprob in likeliest]
        return TokenLogprob(text, token.logprob, data, top)


def why_own(base: BaseModel) -> str | None:
    """Say why a base model is our own engine's whatever vLLM can; None: it is vLLM's, if that takes it."""
    if base.vision:
        return "it takes images, whose features and trained projectors are this server's own"
    return "its layers are in 4 bit in memory" if base.four_bit else None


def carries(completion: Completion, network: Network) -> bool:
    """Whether vLLM's tokens can be the whole answer to a request."""
    request, adapter = completion.request, completion.adapter
    if network.whole or completion.prompt.images or completion.prompt.extras or (adapter and adapter.projector):
        return False
    if request.scored or request.logit_bias or any(answer.matcher for answer in completion.answers):
        return False
    if request.temperature < GREEDY:
        return True
    return request.seed is None and request.temperature >= _COOLEST and request.top_p > 0


def _bases(home: Path) -> list[BaseModel]:
    """The base models that can be asked: those that come with this package only where they are wanted."""
    found: list[BaseModel] = []
    for name in base_models.names(home):
        if (name in BUNDLED and not base_models.wanted(home)) or proofs.refusal(name, home):
            continue
        try:
            found.append(base_models.resolve(name, home))
        except BaseModelError as error:
            logger.warning("No vLLM is started for %s: %s", name, error)
    return found
