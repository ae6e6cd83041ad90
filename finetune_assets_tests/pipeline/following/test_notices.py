"""What people are told, over real HTTP and SMTP, and that it is told once."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from finetune_assets.pipeline.checks.history import report
from finetune_assets.pipeline.component import build_task
from finetune_assets.pipeline.following.notices import Memory
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task

ALL = {"slack": "SLACK_URL", "webhook": "OPS_URL", "email": {"to": ["ops@example.org"], "smtp": "MAIL_URL"}}


class Receiver:
    """Takes what is posted and mailed to it."""

    def __init__(self) -> None:
        self.posted: dict[str, list[Any]] = {"/slack": [], "/ops": []}
        self.mails: list[str] = []
        self.status = 200


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A web server and a mail server on this machine, which the environment names."""
    found = Receiver()

    class Web(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if found.status == 200:
                found.posted[self.path].append(body)
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Mail(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                word = line[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    found.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                if word == b"QUIT":
                    return

    with (
        serving(ThreadingHTTPServer(("127.0.0.1", 0), Web)) as web,
        serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)) as mail,
    ):
        monkeypatch.setenv("SLACK_URL", f"http://127.0.0.1:{web}/slack")
        monkeypatch.setenv("OPS_URL", f"http://127.0.0.1:{web}/ops")
        monkeypatch.setenv("MAIL_URL", f"smtp://127.0.0.1:{mail}")
        yield found


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def fail(instance: dg.DagsterInstance, stage: str, check: str, words: str, **changes: Any) -> None:
    """Store a failed result of a check, as a run or a sensor does."""
    said = {"passed": False, "severity": dg.AssetCheckSeverity.ERROR, "partition": "mono"} | changes
    key = dg.AssetKey(["cells", stage])
    report(instance, [dg.AssetCheckEvaluation(asset_key=key, check_name=check, description=words, **said)])


def tick(task: Task, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    [sensor] = [sensor for sensor in build_task(task).sensors or [] if sensor.name == "cells_notices"]
    assert isinstance(sensor, dg.SensorDefinition)
    result = sensor(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def test_a_task_that_names_nobody_has_no_such_sensor() -> None:
    assert not any(sensor.name == "cells_notices" for sensor in build_task(make_task()).sensors or [])


def test_failures_and_what_waits_are_told_by_every_channel_once(
    receiver: Receiver, instance: dg.DagsterInstance
) -> None:
    task, warning = make_task(notify=ALL), {"severity": dg.AssetCheckSeverity.WARN}
    fail(instance, "finetuned_model", "job_succeeded", "Region mono: job ftjob-1 failed: no money.")
    fail(instance, "filtered_qa", "no_leakage", "Region mono: <!channel> 3 images are in two splits.")
    fail(instance, "champion", "promoted", "Region mono: b is not its champion: a person has to approve it.", **warning)
    fail(instance, "finetuned_model", "model_stays", "It ends in 9 days.", metadata={"days_left": 9}, **warning)
    fail(instance, "filtered_qa", "likely_labels", "Only a warning.", **warning)
    fail(instance, "benchmark", "answers_given", "It answers.", passed=True)

    first = tick(task, instance)
    tick(task, instance, first.cursor)

    [posted], [slack], [mail] = receiver.posted["/ops"], receiver.posted["/slack"], receiver.mails
    assert posted["task"] == "cells"
    told = {notice["kind"]: notice["text"] for notice in posted["notices"]}
    assert told.keys() == {"failed_jobs", "failed_checks", "approvals", "model_ends"}
    assert "no money" in told["failed_jobs"] and "approved_by in the launchpad" in told["approvals"]
    assert "&lt;!channel&gt; 3 images" in slack["text"] and "Only a warning" not in slack["text"]
    read = message_from_string(mail, policy=default)
    body = read.get_content()
    assert read["To"] == "ops@example.org" and "no money" in body and "It ends in 9 days" in body


def test_what_fails_in_other_words_is_told_again_and_an_end_is_not_told_every_day(
    receiver: Receiver, instance: dg.DagsterInstance
) -> None:
    task, warning = make_task(notify={"webhook": "OPS_URL"}), {"severity": dg.AssetCheckSeverity.WARN}
    fail(instance, "finetuned_model", "job_succeeded", "job ftjob-1 failed")
    fail(instance, "finetuned_model", "model_stays", "in 31 days", metadata={"days_left": 31}, **warning)
    cursor = tick(task, instance).cursor
    fail(instance, "finetuned_model", "job_succeeded", "job ftjob-1 failed")
    fail(instance, "finetuned_model", "job_succeeded", "job ftjob-2 failed")
    fail(instance, "finetuned_model", "model_stays", "in 30 days", metadata={"days_left": 30}, **warning)
    cursor = tick(task, instance, cursor).cursor
    fail(instance, "finetuned_model", "model_stays", "in 30 days, as was said", metadata={"days_left": 30}, **warning)
    tick(task, instance, cursor)
    texts = [notice["text"] for posted in receiver.posted["/ops"] for notice in posted["notices"]]
    assert [text.partition("failed. ")[2] or text for text in texts] == [
        "job ftjob-1 failed",
        "job ftjob-2 failed",
        "in 30 days",
    ]


def test_a_channel_that_does_not_take_it_is_tried_again_and_holds_up_no_other(
    receiver: Receiver, instance: dg.DagsterInstance
) -> None:
    task = make_task(notify=ALL)
    fail(instance, "finetuned_model", "job_succeeded", "job ftjob-1 failed")
    receiver.status = 500
    refused = tick(task, instance)
    assert len(receiver.mails) == 1
    assert "1 wait for slack: the address in SLACK_URL answered 500" in str(refused.skip_reason)
    receiver.status = 200
    memory = Memory.model_validate_json(refused.cursor or "")
    for waiting in memory.waiting.values():
        waiting.next_at = 0
    tick(task, instance, tick(task, instance, memory.model_dump_json()).cursor)
    assert [len(posted) for posted in receiver.posted.values()] == [1, 1] and len(receiver.mails) == 1


def test_an_address_that_is_not_set_is_named_and_one_that_is_wrong_is_not_repeated(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(instance, "finetuned_model", "job_succeeded", "job ftjob-1 failed")
    monkeypatch.delenv("SLACK_URL", raising=False)
    monkeypatch.setenv("OPS_URL", "a-secret-and-no-address")
    said = str(tick(make_task(notify={"slack": "SLACK_URL", "webhook": "OPS_URL"}), instance).skip_reason)
    assert "SLACK_URL is not set" in said and "OPS_URL is no address that begins with http:// or" in said
    assert "a-secret" not in said


def test_a_run_that_fails_otherwise_than_by_a_check_is_told(receiver: Receiver, instance: dg.DagsterInstance) -> None:
    @dg.op
    def break_down() -> None:
        raise ValueError("the disk is full")

    @dg.job(name="cells_prepare", executor_def=dg.in_process_executor)
    def prepare() -> None:
        break_down()

    prepare.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": "mono"})
    task = make_task(notify={"webhook": "OPS_URL"})
    tick(task, instance, tick(task, instance).cursor)
    [posted] = receiver.posted["/ops"]
    [notice] = posted["notices"]
    assert notice["kind"] == "failed_runs" and notice["region"] == "mono" and "the disk is full" in notice["text"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "must name slack, webhook or email"),
        ({"slack": "https://hooks.slack.com/services/T/B/x"}, "must be the name of an environment variable"),
        ({"email": {"to": ["ops@example.org\nBcc: all@example.org"]}}, "must be an e-mail address"),
        ({"webhook": "OPS_URL", "of": ["failed_job"]}, "Input should be"),
    ],
)
def test_what_nobody_could_be_told_by_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make_task(notify=said)
