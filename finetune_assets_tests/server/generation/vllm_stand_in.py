"""Stands where the Python of vLLM's environment does, and speaks the part of vLLM's protocol that is used.

Its answers are the tokens 40, 41, 42 ... What it does beside that, `VLLM_STAND_IN` says: `ends` at once, `breaks` off
every answer after two tokens and ends, `refuses` adapters, or `starts` another process. What it is asked is added to
the file `VLLM_STAND_IN_ASKED`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FIRST_TOKEN = 40
HOW = os.environ.get("VLLM_STAND_IN", "")


def write(folder: Path) -> Path:
    """Write what is to be named as vLLM's Python."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\nexec {sys.executable} {__file__} "$@"\n')
    python.chmod(0o755)
    return python


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self._send(401, b"{}")
        elif not body.get("stream") and "prompt" in body:
            self._send(200, json.dumps({"choices": [{"token_ids": [FIRST_TOKEN]}]}).encode())
        else:
            with Path(os.environ["VLLM_STAND_IN_ASKED"]).open("a") as asked:
                asked.write(json.dumps(body) + "\n")
            if self.path == "/v1/completions":
                self._stream(body)
            else:
                self._send(400 if HOW == "refuses" else 200, b"{}")

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for token in range(FIRST_TOKEN, FIRST_TOKEN + body["max_tokens"]):
            if HOW == "breaks" and token == FIRST_TOKEN + 2:
                self.wfile.flush()
                os._exit(1)
            logprobs = None
            if "logprobs" in body:
                top = {f"token_id:{token + 1}": -2.0, f"token_id:{token}": -1.0}
                logprobs = {"token_logprobs": [-1.0], "top_logprobs": [top]}
            self._event({"choices": [{"token_ids": [token], "logprobs": logprobs}]})
        self._event({"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 4}}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, said: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(said)}\n\n".encode())

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args


if __name__ == "__main__":
    if HOW == "ends":
        sys.exit("there is no kernel for this")
    if HOW == "starts":
        subprocess.Popen(["sleep", "600"])
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), _Handler).serve_forever()
