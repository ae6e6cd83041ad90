"""A stand-in for a provider: it answers every question after a fixed time, and takes next to nothing of the machine."""

from __future__ import annotations

import asyncio
import re
import sys

import orjson

CANDIDATES = 20
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def answer() -> bytes:
    """Make an answer of one token with its candidates, as OpenAI writes it."""
    tops = [{"token": f" word{k}", "logprob": -0.2 * k - 0.02, "bytes": [32, 119]} for k in range(CANDIDATES)]
    token = {"token": "Yes", "logprob": -0.02, "bytes": [89], "top_logprobs": [{**tops[0], "token": "Yes"}, *tops[1:]]}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "Yes", "refusal": None},
        "logprobs": {"content": [token], "refusal": None},
    }
    usage = {"prompt_tokens": 120, "completion_tokens": 1, "total_tokens": 121}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return orjson.dumps(whole)


def wire(status: bytes, body: bytes) -> bytes:
    """Make the bytes of a response."""
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


class Line(asyncio.Protocol):
    """One connection: a request at a time, as clients of HTTP/1.1 send them."""

    answered = wire(b"200 OK", answer())
    absent = wire(b"404 Not Found", b'{"error": {"message": "not here"}}')
    latency_s = 0.2

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin."""
        self._transport = transport
        self._head, self._left = b"", 0

    def data_received(self, data: bytes) -> None:
        """Read on; answer what is complete."""
        if not self._left:
            self._head += data
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            length = _LENGTH.search(head)
            self._left, data = int(length[1]) if length else 0, rest
            if not self._left:
                self._head = b""
                self._transport.write(self.absent)
                return
        self._left -= len(data)
        if not self._left:
            self._head = b""
            asyncio.get_running_loop().call_later(self.latency_s, self._transport.write, self.answered)


async def serve() -> None:
    """Answer on a free port, which is printed, until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Line, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    Line.latency_s = float(sys.argv[1])
    asyncio.run(serve())
