"""A stand-in for Azure's control plane over real HTTP: it keeps deployments, and refuses what a test says."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "a token of the control plane"
ACCOUNT = "/subscriptions/s-1/resourceGroups/g-1/providers/Microsoft.CognitiveServices/accounts/a-1"


@dataclass
class ControlPlane:
    """Keeps the deployments of one account, each of which becomes ready while it is looked at."""

    endpoint: str = ""
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: list[tuple[int, str, str]] = field(default_factory=list)
    """Status, code and message of the next answers to PUT."""
    states: list[str] = field(default_factory=lambda: ["Accepted", "Creating", "Succeeded"])
    """What a new deployment goes through, a look at a time."""
    lost_answers: int = 0
    """So many PUTs are acted on, and then not answered."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by method."""
    states_left: dict[str, list[str]] = field(default_factory=dict)

    def look(self, name: str) -> tuple[int, dict[str, Any]]:
        """Answer a GET."""
        if name not in self.deployments:
            return 404, _error("DeploymentNotFound", f"no deployment {name}")
        left = self.states_left.get(name, [])
        if len(left) > 1:
            left.pop(0)
            self.deployments[name]["properties"]["provisioningState"] = left[0]
        return 200, self.deployments[name]

    def put(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a PUT."""
        if self.refusals:
            status, code, message = self.refusals.pop(0)
            return status, _error(code, message)
        self.states_left[name] = list(self.states)
        self.deployments[name] = body | {"name": name}
        self.deployments[name]["properties"] |= {"provisioningState": self.states[0]}
        return 201, self.deployments[name]


@contextmanager
def control_plane() -> Iterator[ControlPlane]:
    """Serve a control plane on a free port of this machine."""
    plane = ControlPlane()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def _answer(self) -> None:
            plane.asked[self.command] += 1
            url = urlsplit(self.path)
            name = url.path.removeprefix(f"{ACCOUNT}/deployments/")
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._send(401, _error("InvalidAuthenticationToken", "The access token is invalid."))
            elif "/" in name or not parse_qs(url.query).get("api-version"):
                self._send(404, _error("ResourceNotFound", f"no {self.path}"))
            elif self.command == "GET":
                self._send(*plane.look(name))
            else:
                status, answer = plane.put(name, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                if plane.lost_answers and status == 201:
                    plane.lost_answers -= 1
                    self.close_connection = True
                else:
                    self._send(status, answer)

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    plane.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield plane
    finally:
        server.shutdown()
        server.server_close()


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
