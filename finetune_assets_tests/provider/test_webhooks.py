"""Which webhooks are a provider's, by the algorithm of "Standard Webhooks"."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import ProviderError, WebhookError
from finetune_assets.provider.webhooks import JobEnded, Verifier
from finetune_assets_tests.webhook_sender import SECRET, job_event, signed

BODY = job_event("ftjob-1")


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_WEBHOOK_SECRET", SECRET)
        return Verifier()


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_what_the_provider_signed_is_read(verifier: Verifier, outcome: str) -> None:
    body = job_event("ftjob-1", outcome)
    assert verifier.read(body, signed(body, "wh_7")) == JobEnded("wh_7", "ftjob-1", f"fine_tuning.job.{outcome}")


def test_one_of_several_signatures_suffices_as_when_a_secret_is_changed(verifier: Verifier) -> None:
    headers = signed(BODY)
    headers["webhook-signature"] = f"v1,{base64.b64encode(b'0' * 32).decode()} {headers['webhook-signature']}"
    assert verifier.read(BODY, headers)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "evt_1", "type": "batch.completed", "created_at": 1, "data": {"id": "batch_1"}}',
        b'{"id": "evt_1", "type": "model.dreamt", "created_at": 1, "data": {"id": "x"}}',
        b'{"type": "fine_tuning.job.succeeded", "data": {"id": 7}}',
        b'{"type": "fine_tuning.job.succeeded"}',
        b"[1, 2]",
        b"null",
    ],
)
def test_what_is_about_no_job_is_nothing(verifier: Verifier, body: bytes) -> None:
    assert verifier.read(body, signed(body)) is None


def refusal(verifier: Verifier, body: bytes, headers: dict[str, str]) -> str:
    with pytest.raises(WebhookError) as refused:
        verifier.read(body, headers)
    return str(refused.value)


def test_another_secret_or_an_old_moment_is_refused(verifier: Verifier) -> None:
    other = "whsec_" + base64.b64encode(b"another key of 24 bytes.").decode()
    assert "does not match" in refusal(verifier, BODY, signed(BODY, secret=other))
    assert "too old" in refusal(verifier, BODY, signed(BODY, age=301))
    assert "too new" in refusal(verifier, BODY, signed(BODY, age=-330))


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(verifier: Verifier, missing: str) -> None:
    headers = {name: value for name, value in signed(BODY).items() if name != missing}
    assert missing in refusal(verifier, BODY, headers)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {"webhook-timestamp": "soon"}),
        (BODY, {"webhook-signature": "v1,ü"}),
        (BODY, {"webhook-id": "wh_2"}),
        (b"\xff", {}),
        (b"{", {}),
    ],
)
def test_what_cannot_be_read_is_refused(verifier: Verifier, body: bytes, headers: dict[str, str]) -> None:
    assert refusal(verifier, body, signed(body) | headers)


@given(place=st.integers(0, len(BODY) - 1), byte=st.integers(0, 255))
def test_a_body_with_another_byte_is_refused(verifier: Verifier, place: int, byte: int) -> None:
    changed = BODY[:place] + bytes([byte]) + BODY[place + 1 :]
    if changed != BODY:
        assert refusal(verifier, changed, signed(BODY))


@pytest.mark.parametrize("secret", [None, " ", "whsec_", "whsec_abcde", "whsec_c2hvcnQ=", "short"])
def test_without_a_secret_it_is_said_where_to_find_one(secret: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_WEBHOOK_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", secret)
    with pytest.raises(ProviderError, match="OPENAI_WEBHOOK_SECRET.*settings/project/webhooks"):
        Verifier()


def test_a_secret_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", "whsec_TopSecretButCutOf")
    with pytest.raises(ProviderError, match="not copied whole") as refused:
        Verifier()
    assert "TopSecret" not in str(refused.value)
