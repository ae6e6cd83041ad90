"""Counts the tokens of many examples on two cores, while they are being checked.

Counting takes longer than all other checks together, and the counter keeps Python's lock. So a second process counts
batches of texts, and whenever it has enough to do, this one counts too. Small files never start it.

    python -m finetune_assets.training_file.counting    reads lists of texts, a JSON line each, and writes their counts
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import orjson

from finetune_assets.training_file.tokens import Talk, count

_BATCH_CHARACTERS = 250_000
_WORTH_A_PROCESS = 20
"""Batches after which the second process is started: it takes as long to start as these take to be counted."""
_AHEAD = 3

Batch = list[tuple[int, list[tuple[int, int]]]]
"""Of each line, its talks: the tokens besides the texts, and how many of the batch's texts are its own."""


class Counting:
    """Counts the talks of examples, which come back out of order.

    Args:
        counted: Called with an example's line and the tokens of each of its talks, in the thread that adds examples.
    """

    def __init__(self, counted: Callable[[int, list[int]], None]) -> None:
        self._counted = counted
        self._batch: Batch = []
        self._texts: list[str] = []
        self._characters = self._n_batches = 0
        self._other: _OtherProcess | None = None
        self._waiting: deque[tuple[Batch, Future[list[int]]]] = deque()

    def __enter__(self) -> Counting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._count_batch()
                self._collect(0)
        finally:
            if self._other is not None:
                self._other.close()

    def add(self, line: int, talks: list[Talk]) -> None:
        """Have the talks of an example counted, now or later."""
        self._batch.append((line, [(fixed, len(texts)) for fixed, texts in talks]))
        for _, texts in talks:
            self._texts += texts
            self._characters += sum(map(len, texts))
        if self._characters > _BATCH_CHARACTERS:
            self._count_batch()

    def _count_batch(self) -> None:
        batch, self._batch, self._characters = self._batch, [], 0
        texts, self._texts = self._texts, []
        self._n_batches += 1
        if self._n_batches == _WORTH_A_PROCESS and (os.cpu_count() or 1) > 1:
            self._other = _OtherProcess()
        self._collect(_AHEAD)
        if self._other is not None and len(self._waiting) < _AHEAD:
            self._waiting.append((batch, self._other.count(texts)))
        else:
            self._hand_back(batch, [count(text) for text in texts])

    def _collect(self, left: int) -> None:
        """Take what the other process has counted; wait for it while more than `left` batches are not."""
        while self._waiting and (len(self._waiting) > left or self._waiting[0][1].done()):
            batch, counts = self._waiting.popleft()
            self._hand_back(batch, counts.result())

    def _hand_back(self, batch: Batch, counts: list[int]) -> None:
        begin = 0
        for line, talks in batch:
            tokens: list[int] = []
            for fixed, n_texts in talks:
                tokens.append(fixed + sum(counts[begin : begin + n_texts]))
                begin += n_texts
            self._counted(line, tokens)


class _OtherProcess:
    """The second process, and a thread that waits for it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._thread = ThreadPoolExecutor(1)

    def count(self, texts: list[str]) -> Future[list[int]]:
        return self._thread.submit(self._ask, texts)

    def _ask(self, texts: list[str]) -> list[int]:
        process = self._process
        if process.stdin is None or process.stdout is None or process.poll() is not None:
            return [count(text) for text in texts]
        process.stdin.write(orjson.dumps(texts, option=orjson.OPT_APPEND_NEWLINE))
        process.stdin.flush()
        return orjson.loads(process.stdout.readline())

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._process.communicate()


def main() -> None:
    """Answer each line of texts with a line of their counts, until there are no more."""
    for line in sys.stdin.buffer:
        counts = [count(text) for text in orjson.loads(line)]
        sys.stdout.buffer.write(orjson.dumps(counts, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
