"""HTTP lines that fail in chosen ways, between the unmodified SDK and a real server."""

from __future__ import annotations

import httpx2
import openai

from finetune_assets_tests.server_process import ServerProcess


class LosesAnswers(httpx2.HTTPTransport):
    """Lets the server act on a POST and then drops its answer, `times` times."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.left = times

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if request.method == "POST" and self.left:
            self.left -= 1
            response.read()
            raise httpx2.ReadError("the line went dead after the server had acted", request=request)
        return response


class NeverArrives(httpx2.HTTPTransport):
    """Drops POSTs on their way to the server, `times` times."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.left = times

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST" and self.left:
            self.left -= 1
            raise httpx2.ConnectError("the line was dead", request=request)
        return super().handle_request(request)


def client_over(server: ServerProcess, transport: httpx2.BaseTransport) -> openai.OpenAI:
    """The SDK with its usual retries, over a line of our making."""
    return openai.OpenAI(
        base_url=server.base_url, api_key=server.key, http_client=openai.DefaultHttpxClient(transport=transport)
    )
