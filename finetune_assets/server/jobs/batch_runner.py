"""Works on batches, in the server's event loop: a few at a time, with a limited number of lines in flight.

A batch is resumed from its journal wherever it stands, so that stopping the work at any moment (a cancelled batch,
a server that ends or is killed) loses nothing that counts and repeats nothing that does.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pydantic

from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.chat_request import ChatBody
from finetune_assets.server.api.decision_answering import DecisionMaker
from finetune_assets.server.api.decision_request import DecisionBody
from finetune_assets.server.api.decisions import as_decision
from finetune_assets.server.api.places import Places, weight
from finetune_assets.server.api.request_errors import explain
from finetune_assets.server.api.wire import ApiError
from finetune_assets.server.database.batches import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    EXPIRED,
    FINALIZING,
    IN_PROGRESS,
    VALIDATING,
    BatchStateError,
    BatchStore,
)
from finetune_assets.server.database.files import DamagedFileError
from finetune_assets.server.database.schema import Batch, new_id
from finetune_assets.server.database.usage import Account
from finetune_assets.server.jobs.batch_journal import Journal, Line, Outcome, Progress
from finetune_assets.server.keys import Keys
from finetune_assets.server.services import Services
from finetune_assets.server.shortage import ShortageError, shortage_of
from finetune_assets.server.turns import Room

DECISIONS = "/v1/decisions"
MAX_BATCHES = 2
MAX_OWNERS = 16
"""Batches at once where each is another owner's."""
MAX_LINES_IN_FLIGHT = 16
MAX_TRIES = 3
"""How often work that meets an unforeseen error is taken up again."""
REST_SECONDS = 5.0
"""How long a batch rests after it met a shortage, and all of them after an error that kept them from being seen."""
LOOK_SECONDS = 30.0
LOOK_SECONDS_OF_MANY = 2.0
"""How often one of several servers looks for batches that came in, or are cancelled, elsewhere."""
LEASE_SECONDS = 120.0

logger = logging.getLogger(__name__)


class BatchRunner:
    """Takes every open batch to its end; those of each owner oldest first."""

    def __init__(
        self, served: Services, completions: Completions, decisions: DecisionMaker, keys: Keys, places: Places
    ) -> None:
        self._served = served
        self._store = served.batches
        self._completions = completions
        self._decisions = decisions
        self._folder = served.home / "batches"
        self._woken = asyncio.Event()
        self._keys = keys
        self._places = places
        self._slots = Room(MAX_LINES_IN_FLIGHT)
        self._working: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, str] = {}
        """Whose the batches are that are worked on."""
        self._claims: dict[str, int] = {}
        self._look_seconds = LOOK_SECONDS_OF_MANY if served.database.shared else LOOK_SECONDS
        self._tries: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, and take up what an earlier server left."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Look at the batches now: there is a new one, or one is no longer wanted. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def stop(self) -> None:
        """Leave all batches as they are."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for task in self._working.values():
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)
        claims, self._claims = self._claims, {}
        await self._let_go(claims)

    async def _run(self) -> None:
        tidy = False
        while True:
            self._woken.clear()
            pause = self._look_seconds
            try:
                if not tidy:
                    await asyncio.to_thread(self._remove_leftovers)
                    tidy = True
                await self._look()
            except Exception as error:  # whatever it is, batches that nobody works on would wait for ever
                pause = REST_SECONDS
                if lack := shortage_of(error):
                    logger.warning("No batch is taken up: %s. %s.", lack.words, lack.remedy)
                else:
                    logger.exception("The batches met an error and are looked at again")
            with suppress(TimeoutError):
                # Not `wait_for`, which goes on if it is cancelled at the moment at which what it waits for comes.
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    async def _look(self) -> None:
        """Take up the batches whose turn it is, and leave those that are no longer wanted."""
        for batch in await self._mine():
            task = self._working.get(batch.id)
            if task is not None and batch.status == CANCELLING and task.get_name() != CANCELLING:
                if not task.cancelling():
                    task.cancel()  # it is taken up again, as cancelled, when this one is done
            elif task is None and (batch.status == CANCELLING or self._has_turn(batch)):
                if not await self._claimed(batch):
                    continue
                self._owners[batch.id] = batch.owner
                task = asyncio.create_task(self._work(batch), name=batch.status)
                self._working[batch.id] = task

    async def _mine(self) -> Sequence[Batch]:
        """List the batches that are this server's, or may be."""
        if self._claims:
            await asyncio.to_thread(self._store.renew, self._claims, LEASE_SECONDS)
        found = await asyncio.to_thread(self._store.open, self._claims)
        self._claims = {batch.id: self._claims[batch.id] for batch in found if batch.id in self._claims}
        return found

    async def _claimed(self, batch: Batch) -> bool:
        """Take a batch up, unless another server was sooner."""
        if batch.id not in self._claims:
            claim = await asyncio.to_thread(self._store.claim, batch.id, LEASE_SECONDS)
            if claim is None:
                return False
            self._claims[batch.id] = claim
        return True

    async def _let_go(self, claims: Mapping[str, int]) -> None:
        """Let whoever comes take batches up, this server or another; those that others have are theirs."""
        with suppress(ShortageError):  # then the leases come to their end
            await asyncio.to_thread(self._store.renew, claims, 0)

    def _has_turn(self, batch: Batch) -> bool:
        """Whether a batch may begin: so many may, and the first of an owner who has none under way."""
        n = len(self._working)
        return n < MAX_BATCHES or (n < MAX_OWNERS and batch.owner not in self._owners.values())

    def _remove_leftovers(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._served.database.shared:
            self._store.recover()
        known = {batch.id for batch in self._store.open()}
        for folder in self._folder.iterdir():
            if self._store.get(folder.name) is None:
                self._served.removal.set_aside(folder)
            elif folder.name not in known:
                self._served.removal.remove(folder)

    async def _work(self, batch: Batch) -> None:
        try:
            await self._advance(batch, Journal(self._folder / batch.id))
            self._woken.set()
        except asyncio.CancelledError:
            self._woken.set()
            raise
        except BatchStateError:  # it was cancelled between two steps, or another server has taken it up
            await self._let_go({batch.id: self._claims.pop(batch.id, -1)})
            self._woken.set()
        except Exception as error:
            if lack := shortage_of(error):
                logger.warning("The batch %s waits: %s. %s.", batch.id, lack.words, lack.remedy)
                asyncio.get_running_loop().call_later(REST_SECONDS, self._woken.set)
                return
            self._tries[batch.id] += 1
            logger.exception("Work on the batch %s met an error (%d of %d)", batch.id, self._tries[batch.id], MAX_TRIES)
            if self._tries[batch.id] >= MAX_TRIES:
                await self._give_up(batch)
        finally:
            del self._working[batch.id], self._owners[batch.id]

    async def _give_up(self, batch: Batch) -> None:
        problem = {
            "code": "server_error",
            "message": f"The server met an error {MAX_TRIES} times while working on this batch. Its log says more.",
            "param": None,
            "line": None,
        }
        with suppress(BatchStateError):
            await asyncio.to_thread(self._of(batch).failed, batch.id, [problem])
        await asyncio.to_thread(self._served.removal.remove, self._folder / batch.id)

    def _of(self, batch: Batch) -> BatchStore:
        return self._store.of(self._claims.get(batch.id, -1))

    async def _advance(self, batch: Batch, journal: Journal) -> None:
        """Take the batch from where it stands to its end."""
        status = batch.status
        if status in (IN_PROGRESS, FINALIZING) and not journal.has_input:  # another server has begun it
            status = await asyncio.to_thread(self._take_input, batch, journal) and IN_PROGRESS
        if status == VALIDATING:
            status = await asyncio.to_thread(self._validate, batch, journal)
        if status == IN_PROGRESS:
            await self._answer_lines(batch, journal)
            await asyncio.to_thread(self._of(batch).finalizing, batch.id)
            status = FINALIZING
        if status in (FINALIZING, CANCELLING):
            progress = await asyncio.to_thread(journal.resume)
            await asyncio.to_thread(self._count, batch, progress)
            final = CANCELLED if status == CANCELLING else EXPIRED if progress.expired else COMPLETED
            await asyncio.to_thread(self._of(batch).finished, batch.id, final, journal.output, journal.errors)
        await asyncio.to_thread(self._served.removal.remove, journal.folder)

    def _take_input(self, batch: Batch, journal: Journal) -> bool:
        """Bring the input file here; False if the batch has failed without it."""
        file = self._served.files.get(batch.input_file_id)
        try:
            if file is None:
                raise DamagedFileError("The input file has been deleted.")
            journal.take(self._served.files.path(file))
        except DamagedFileError as error:
            problem = {"code": "file_not_found", "message": str(error), "param": "input_file_id", "line": None}
            self._of(batch).failed(batch.id, [problem])
            return False
        return True

    def _validate(self, batch: Batch, journal: Journal) -> str | None:
        """Look at the input file; None if the batch has failed."""
        if not self._take_input(batch, journal):
            return None
        first, errors = journal.validate(batch.endpoint)
        if errors:
            self._of(batch).failed(batch.id, errors)
            return None
        model = first[0].body.get("model")
        self._of(batch).started(batch.id, model=model if isinstance(model, str) else None, total=journal.total())
        return IN_PROGRESS

    async def _answer_lines(self, batch: Batch, journal: Journal) -> None:
        """Answer what is not answered yet, until the batch's time is over."""
        progress = await asyncio.to_thread(journal.resume)
        answered = frozenset(progress.done)
        outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        writing = asyncio.create_task(self._write(batch, journal, progress, outcomes))
        try:
            async with asyncio.TaskGroup() as group:
                lines = journal.lines()
                # A line may be long, and the event loop has more to do than to read a file.
                while (line := await asyncio.to_thread(next, lines, None)) is not None:
                    if writing.done():
                        break  # it has failed, and says below why
                    if line.custom_id in answered:
                        continue
                    if time.time() >= batch.expires_at:
                        outcomes.put_nowait(_expired(line))
                        continue
                    leave = await self._enter(batch.owner, weight(line.size))
                    task = group.create_task(self._answer_line(batch, line, outcomes))
                    # Not at the end of the task's own code, which does not run if it is cancelled before it begins.
                    task.add_done_callback(leave)
        finally:
            # Also when the batch is cancelled: what has been answered counts.
            outcomes.put_nowait(None)
            await asyncio.shield(writing)

    async def _enter(self, owner: str, size: int) -> Callable[[object], None]:
        """Wait until a line of this weight may be answered; return what to call once it is."""
        await self._places.bodies.take(owner, size)
        try:
            await self._slots.take(owner, 1)
        except asyncio.CancelledError:
            self._places.bodies.give_back(owner, size)
            raise

        def leave(_done: object) -> None:
            self._slots.give_back(owner, 1)
            self._places.bodies.give_back(owner, size)

        return leave

    async def _answer_line(self, batch: Batch, line: Line, outcomes: asyncio.Queue[Outcome | None]) -> None:
        status, body = await self._answer(batch.endpoint, line.body, self._keys.account(batch.owner))
        response = {"status_code": status, "request_id": f"req_{uuid.uuid4().hex}", "body": body}
        outcomes.put_nowait(Outcome(status == 200, _wire(line, response, None)))

    async def _answer(self, endpoint: str, body: Any, asker: Account) -> tuple[int, dict[str, Any]]:
        """Answer as the endpoint does: with a status and a body."""
        try:
            if endpoint == DECISIONS:
                wanted = DecisionBody.model_validate(body)
                decision = as_decision(wanted, await self._decisions.decide(wanted, asker))
                return 200, decision.model_dump(mode="json", exclude_unset=True)
            asked = ChatBody.model_validate(body)
            if asked.stream:
                raise ApiError(400, "Streams are not possible in a batch.", param="stream", code="unsupported_value")
            completion = await self._completions.complete(asked, asker)
            return 200, completion.model_dump(mode="json", exclude_unset=True)
        except pydantic.ValidationError as invalid:
            found = [{**error, "loc": ("body", *error["loc"])} for error in invalid.errors()]
            problem = explain(found, body)
            refused = ApiError(400, problem.message, param=problem.param, code=problem.code)
            return 400, refused.content()
        except ApiError as refused:
            if shortage_of(refused):
                raise
            return refused.status_code, refused.content()
        except Exception as error:  # one line must not end the others
            if shortage_of(error):
                raise  # the batch waits, and asks again
            logger.exception("A line of a batch failed")
            return 500, ApiError(500, "The server had an error. Its log says more.", kind="server_error").content()

    async def _write(
        self, batch: Batch, journal: Journal, progress: Progress, outcomes: asyncio.Queue[Outcome | None]
    ) -> None:
        """Bring outcomes to the disk and count them, all that are waiting at once, until there is a None."""
        last = False
        while not last:
            waiting = [await outcomes.get()]
            while not outcomes.empty():
                waiting.append(outcomes.get_nowait())
            found = [outcome for outcome in waiting if outcome is not None]
            last = len(found) < len(waiting)
            await asyncio.to_thread(journal.append, found)
            for outcome in found:
                progress.add(outcome)
            await asyncio.to_thread(self._count, batch, progress)

    def _count(self, batch: Batch, progress: Progress) -> None:
        done = {"completed": progress.completed, "failed": progress.failed}
        self._of(batch).counted(batch.id, **done, usage=dict(progress.usage))


def _expired(line: Line) -> Outcome:
    message = "This request could not be executed before the completion window expired."
    return Outcome(False, _wire(line, None, {"code": "batch_expired", "message": message}))


def _wire(line: Line, response: dict[str, Any] | None, error: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": new_id("batch_req_"), "custom_id": line.custom_id, "response": response, "error": error}
