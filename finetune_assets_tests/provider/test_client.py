"""Who is asked, with which key, and what is said when it goes wrong."""

from __future__ import annotations

import socket
import traceback
from pathlib import Path

import httpx2
import openai
import pytest

from finetune_assets.errors import ProviderError
from finetune_assets.provider.client import HOOKS, asked_as, connect, explained
from finetune_assets.running import announced
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server_process import ServerProcess

KEYS = ("FINETUNE_ASSETS_API_KEY", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and no keys."""
    for name in (*KEYS, "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusing(status: int, code: str | None = None, message: str = "no") -> openai.OpenAI:
    """A client whose provider refuses everything."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=body))
    http = openai.DefaultHttpxClient(transport=transport)
    return openai.OpenAI(base_url="http://there/v1", api_key="sk-secret", http_client=http, max_retries=0)


def test_local_is_the_server_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "ours")
    client = connect("local")
    assert (str(client.base_url), client.api_key) == ("http://127.0.0.1:8321/v1/", "ours")


def test_local_reads_the_key_that_the_server_wrote(elsewhere: Path) -> None:
    (elsewhere / "var/server").mkdir(parents=True)
    (elsewhere / "var/server/api_key").write_text("written\n")
    assert connect("local").api_key == "written"


def test_local_is_wherever_the_folder_s_server_says_that_it_listens(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = elsewhere / "var/server"
    home.mkdir(parents=True)
    (home / "api_key").write_text("written\n")
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "of another server")
    with announced(home, "http://127.0.0.1:40123", {"key": "file"}):
        client = connect("local")
        assert (str(client.base_url), client.api_key) == ("http://127.0.0.1:40123/v1/", "written")
        assert asked_as(client) == "local"
    with announced(home, "http://127.0.0.1:40123", {"key": "environment"}):
        assert connect("local").api_key == "of another server"
        monkeypatch.delenv("FINETUNE_ASSETS_API_KEY")
        with pytest.raises(ProviderError, match="set FINETUNE_ASSETS_API_KEY as where the server was started"):
            connect("local")


def test_local_may_be_a_server_of_another_machine_by_the_name_that_the_environment_gives(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = elsewhere / "var/server"
    home.mkdir(parents=True)
    (home / "api_key").write_text("of the folder's own server\n")
    monkeypatch.setenv("FINETUNE_ASSETS_BASE_URL", "http://Server:8321/v1/")
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "the other's")
    with announced(home, "http://127.0.0.1:40123", {"key": "file"}):
        client = connect("local")
        assert (str(client.base_url), client.api_key) == ("http://server:8321/v1/", "the other's")
        assert asked_as(client) == "local"
        assert asked_as(openai.OpenAI(base_url="http://127.0.0.1:40123/v1", api_key="k")) != "local"
    monkeypatch.delenv("FINETUNE_ASSETS_API_KEY")
    with pytest.raises(ProviderError, match="set FINETUNE_ASSETS_API_KEY as where the server was started"):
        connect("local")


def test_a_server_of_this_machine_that_is_named_gets_the_key_of_its_own_folder(
    server: ServerProcess, home: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "of another server")
    with ServerProcess(home, key=None) as other:
        monkeypatch.setenv("FINETUNE_ASSETS_BASE_URL", other.base_url)
        assert connect("local").api_key == other.key
    assert elsewhere and server


@pytest.mark.parametrize("named", ["server:8321", "/v1", "ftp://server/v1", "http://", "http://server/v1?key=k"])
def test_a_name_of_the_server_that_is_no_address_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_BASE_URL", named)
    with pytest.raises(ProviderError, match="FINETUNE_ASSETS_BASE_URL must be a base URL such as"):
        connect("local")


def test_of_two_servers_on_this_machine_each_gets_its_own_key(
    server: ServerProcess, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    with ServerProcess(home, key=None) as other:
        for one in (server, other):
            client = connect(one.base_url)
            assert client.api_key == one.key and "tiny-text" in {model.id for model in client.models.list()}
        monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "neither's")
        client = connect(server.base_url)
        whose = f"it is the server of {server.home}, whose key is in the FINETUNE_ASSETS_API_KEY with which"
        with pytest.raises(ProviderError, match=whose), explained(client):
            client.models.list()


def test_a_missing_local_key_says_how_to_get_one() -> None:
    with pytest.raises(ProviderError, match=r"set FINETUNE_ASSETS_API_KEY, or start the server with `finetune-assets"):
        connect("local")


def test_openai_is_configured_as_the_sdk_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    assert str(connect("openai").base_url) == "https://api.openai.com/v1/"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy/v1")
    assert (str(connect("openai").base_url), connect("openai").api_key) == ("https://proxy/v1/", "theirs")


@pytest.mark.parametrize("endpoint", ["https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/"])
def test_azure_is_reached_by_its_endpoint(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", endpoint)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "theirs")
    assert str(connect("azure").base_url) == "https://r.openai.azure.com/openai/v1/"


def test_azure_without_an_endpoint_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    with pytest.raises(ProviderError, match="set AZURE_OPENAI_ENDPOINT .*such as https://RESOURCE"):
        connect("azure")


def test_our_server_takes_azures_address_and_header(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url.removesuffix("/v1"))
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", server.key)
    sent = connect("azure").models.with_raw_response.list().http_request.headers
    assert "tiny-text" in {model.id for model in connect("azure").models.list()}
    assert sent["api-key"] == server.key and "authorization" not in sent


def test_an_answer_that_was_cut_off_is_asked_for_again() -> None:
    answers = iter([b'{"object": "list", "da', b'{"object": "list", "data": []}'])
    headers = {"content-type": "application/json"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=next(answers), headers=headers))
    client = openai.OpenAI(
        base_url="http://there/v1", api_key="k", http_client=httpx2.Client(transport=transport, event_hooks=HOOKS)
    )
    assert client.models.list().data == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://localhost:9/v1", "http://[::1]:9/v1"])
def test_a_server_on_this_machine_gets_our_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, name)
    assert connect(url).api_key == "FINETUNE_ASSETS_API_KEY"


def test_another_host_never_gets_our_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "ours")
    with pytest.raises(ProviderError, match="set EXAMPLE_COM_API_KEY"):
        connect("https://example.com/v1")
    monkeypatch.setenv("EXAMPLE_COM_API_KEY", "theirs")
    assert connect("https://example.com/v1").api_key == "theirs"


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://api.openai.com.example.org/v1", "API_OPENAI_COM_EXAMPLE_ORG_API_KEY"),
        ("https://openai.com@evil.example/v1", "EVIL_EXAMPLE_API_KEY"),
        ("https://evilopenai.com/v1", "EVILOPENAI_COM_API_KEY"),
        ("http://10.0.0.7:8000/v1", "10_0_0_7_API_KEY"),
    ],
)
def test_openai_s_key_goes_to_no_host_that_a_task_names(
    url: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openai's")
    with pytest.raises(ProviderError, match=rf"set {variable}; OPENAI_API_KEY is sent to OpenAI"):
        connect(url)
    monkeypatch.setenv(variable, "theirs")
    assert connect(url).api_key == "theirs"


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1", "https://proxy.example/v1"]
)
def test_openai_s_key_goes_to_openai_and_where_its_user_sends_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openai's")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example/other")
    assert connect(url).api_key == "openai's"


def test_a_name_of_the_environment_is_a_provider_with_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_VLLM_BASE_URL", "http://127.0.0.1:8000/v1")
    monkeypatch.setenv("TEAM_VLLM_API_KEY", "the team's")
    for name in KEYS:
        monkeypatch.setenv(name, name)
    named = make_task(provider="team-vllm").provider
    assert named == "http://127.0.0.1:8000/v1"
    for provider in (named, "team-vllm", "team_vllm"):
        client = connect(provider)
        assert (str(client.base_url), client.api_key) == ("http://127.0.0.1:8000/v1/", "the team's")
    assert connect("http://127.0.0.1:8001/v1").api_key == "FINETUNE_ASSETS_API_KEY"
    monkeypatch.setenv("TEAM_VLLM_BASE_URL", "team.example")
    with pytest.raises(ValueError, match="TEAM_VLLM_BASE_URL, got 'team-vllm'"):
        make_task(provider="team-vllm")
    with pytest.raises(ProviderError, match="got 'team-vllm'"):
        connect("team-vllm")


@pytest.mark.parametrize("name", ["azzure", "ftp://host/v1", "https://", ""])
def test_a_provider_that_cannot_be_is_named(name: str) -> None:
    with pytest.raises(ProviderError, match=f"got {name!r}"):
        connect(name)


def test_silence_says_who_is_silent_and_how_to_start_it() -> None:
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0)
    with (
        pytest.raises(ProviderError, match=r"127\.0\.0\.1:9/v1/ does not answer .*finetune-assets serve"),
        explained(client),
    ):
        client.models.list()


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("https://api.openai.com/v1", r"can this machine reach it, by a proxy .*status\.openai\.com"),
        ("https://elsewhere.example/v1", r"is the address right, and can this machine reach it"),
    ],
)
def test_what_to_do_about_silence_fits_who_is_silent(url: str, advice: str) -> None:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route")

    http = openai.DefaultHttpxClient(transport=httpx2.MockTransport(refuse))
    client = openai.OpenAI(base_url=url, api_key="k", http_client=http, max_retries=0)
    with pytest.raises(ProviderError, match=advice) as caught, explained(client):
        client.models.list()
    assert "finetune-assets serve" not in str(caught.value)


def test_a_provider_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_assets.provider.client.TIMEOUT", httpx2.Timeout(0.2))
    monkeypatch.setattr("finetune_assets.provider.client.RETRIES", 1)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        with pytest.raises(ProviderError, match="does not answer"), explained(client):
            client.models.list()


def test_a_wrong_key_is_said_without_repeating_it(server: ServerProcess) -> None:
    client = openai.OpenAI(base_url=server.base_url, api_key="sk-wrong-key", max_retries=0)
    with pytest.raises(ProviderError, match="does not accept the API key") as caught, explained(client):
        client.models.list()
    assert "sk-wrong-key" not in "".join(traceback.format_exception(caught.value))


def test_a_refusal_is_told_in_the_provider_s_words() -> None:
    client = refusing(400, message="training_file is too short")
    with pytest.raises(ProviderError, match=r"answered 400: training_file is too short$"), explained(client):
        client.models.list()


def test_closed_fine_tuning_comes_with_the_way_out() -> None:
    client = refusing(403, code="training_not_available", message="winding down")
    with pytest.raises(ProviderError, match=r"winding down.*`provider: local`"), explained(client):
        client.models.list()
