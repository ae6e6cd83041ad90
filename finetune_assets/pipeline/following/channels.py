"""Ways to tell people: a Slack webhook, any webhook, mail. Where each goes is read from the environment."""

from __future__ import annotations

import os
import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from functools import partial
from urllib.parse import unquote, urlsplit

import httpx2

from finetune_assets.errors import NoticeError
from finetune_assets.provider.local_server import is_loopback
from finetune_assets.task import Task
from finetune_assets.task.notify import Email

TIMEOUT_S = 10
MAX_LINES = 20
"""Of one message to people; how many more there are is said."""
Send = Callable[[Sequence[dict[str, str]]], None]
"""Takes notices, each with `kind`, `region` and `text`; raises `NoticeError`."""


def channels(task: Task) -> dict[str, Send]:
    """Return the ways that the task names, by name."""
    asked = task.notify
    if asked is None:
        return {}
    return {
        **({"slack": partial(_slack, task, asked.slack)} if asked.slack else {}),
        **({"webhook": partial(_webhook, task, asked.webhook)} if asked.webhook else {}),
        **({"email": partial(_mail, task, asked.email)} if asked.email else {}),
    }


def _slack(task: Task, variable: str, notices: Sequence[dict[str, str]]) -> None:
    text = "\n".join(_lines(task, notices))
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)  # no text of the data's makes a link, or calls the whole channel
    _post(variable, {"text": text})


def _webhook(task: Task, variable: str, notices: Sequence[dict[str, str]]) -> None:
    _post(variable, {"task": task.task, "notices": list(notices)})


def _post(variable: str, message: dict[str, object]) -> None:
    address = _setting(variable, ("http", "https"))
    try:
        answer = httpx2.post(address, json=message, timeout=TIMEOUT_S, follow_redirects=False)
    except httpx2.HTTPError as error:
        # The address is a secret, and the library's words may repeat it.
        raise NoticeError(f"the address in {variable} does not answer ({type(error).__name__})") from None
    if not answer.is_success:
        raise NoticeError(f"the address in {variable} answered {answer.status_code}")


def _mail(task: Task, email: Email, notices: Sequence[dict[str, str]]) -> None:
    place = urlsplit(_setting(email.smtp, ("smtp", "smtps")))
    user, password = unquote(place.username or ""), unquote(place.password or "")
    message = EmailMessage()
    message["Subject"] = f"{task.task}: {notices[0]['text']}"[:120] if len(notices) == 1 else _lines(task, notices)[0]
    message["From"] = email.sender or (user if "@" in user else f"finetune-assets@{socket.getfqdn()}")
    message["To"] = ", ".join(email.to)
    message.set_content("\n\n".join(_lines(task, notices)))
    try:
        with _server(place.scheme, place.hostname or "", place.port) as server:
            if user and not isinstance(server, smtplib.SMTP_SSL) and not _is_safe(server, place.hostname or ""):
                raise NoticeError(f"the server in {email.smtp} offers no TLS, and a password is not sent without it")
            if user:
                server.login(user, password)
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise NoticeError(f"the mail server in {email.smtp} did not take the mail ({type(error).__name__})") from None


def _server(scheme: str, host: str, port: int | None) -> smtplib.SMTP:
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_S, context=ssl.create_default_context())
    return smtplib.SMTP(host, port or 587, timeout=TIMEOUT_S)


def _is_safe(server: smtplib.SMTP, host: str) -> bool:
    """Say whether a password may be sent, after going over to TLS where the server offers it."""
    server.ehlo()
    if server.has_extn("starttls"):
        server.starttls(context=ssl.create_default_context())
        return True
    return is_loopback(host)


def _setting(variable: str, schemes: tuple[str, ...]) -> str:
    found = os.environ.get(variable, "")
    place = urlsplit(found)
    if place.scheme not in schemes or not place.hostname:
        said = "is not set" if not found else f"is no address that begins with {':// or '.join(schemes)}://"
        raise NoticeError(f"{variable} {said}; `notify` of the task names it")
    return found


def _lines(task: Task, notices: Sequence[dict[str, str]]) -> list[str]:
    """Say it for people."""
    first = [f"{task.task}: {len(notices)} thing{'s' if len(notices) > 1 else ''} you ought to know"]
    said = [" ".join(notice["text"].split()) for notice in notices[:MAX_LINES]]
    more = [f"and {len(notices) - MAX_LINES} more"] if len(notices) > MAX_LINES else []
    return first + said + more
