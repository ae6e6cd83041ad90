"""The few GraphQL calls to a running Dagster that the demo needs."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from finetune_assets.errors import FinetuneAssetsError


class DagsterError(FinetuneAssetsError, RuntimeError):
    """Dagster refused a request."""


_PARTITION = "dagster/partition"
_DEMO = "finetune_assets/demo"
"""Of the runs that one demo has started."""
_TAG_SECONDS = 10.0
"""After a failure, until its tag is no longer waited for."""


@dataclass(frozen=True, slots=True)
class _Run:
    run_id: str
    status: str
    end_time: float | None
    """Unix seconds."""
    job: str
    tags: dict[str, str]

    @property
    def region(self) -> str:
        """Its partition, or nothing."""
        return self.tags.get(_PARTITION, "")

    @property
    def failed_for_good(self) -> bool:
        """Whether nothing more will come of it.

        Dagster says in a tag whether it starts a failed run again. The tag comes after the failure, and not at all
        where Dagster starts none again.
        """
        if self.status != "FAILURE":
            return self.status == "CANCELED"
        if "dagster/will_retry" not in self.tags:
            return time.time() - (self.end_time or 0) > _TAG_SECONDS
        return self.tags["dagster/will_retry"] != "true"


class DagsterClient:
    """Speaks to the webserver at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def wait_until_loaded(self, require_alive: Callable[[], None], seconds: float = 120) -> None:
        """Wait for the code location.

        Args:
            require_alive: Raises an error if Dagster has ended.
            seconds: How long.

        Raises:
            DagsterError: it does not load; the message says why.
        """
        query = """{ workspaceOrError { ... on Workspace { locationEntries {
            loadStatus locationOrLoadError { __typename ... on PythonError {
                message errorChain { error { message } } } } } } } }"""
        deadline = time.monotonic() + seconds
        while True:
            require_alive()
            for entry in self._ask(query)["workspaceOrError"].get("locationEntries", []):
                found = entry["locationOrLoadError"] or {}
                if found.get("__typename") == "PythonError":
                    raise DagsterError(f"the tasks cannot be loaded: {_innermost(found)}")
                if entry["loadStatus"] == "LOADED":
                    return
            if time.monotonic() > deadline:
                raise DagsterError(f"the code location did not load within {seconds:.0f} s")
            time.sleep(0.5)

    def start_runs(
        self, task: str, stages: list[str], regions: list[str], config: Mapping[str, Any] | None = None
    ) -> str:
        """Materialise `stages`, by one run for each region; returns what tells these runs from others.

        `config` is what a person may type into the launchpad.

        A backfill of the same would wait for the daemon that looks after them, which does so every half minute.
        """
        query = """mutation($params: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $params) {
            ... on LaunchMultipleRunsResult { launchMultipleRunsResult { __typename
                ... on LaunchRunSuccess { run { runId } }
                ... on RunConfigValidationInvalid { errors { message } }
                ... on Error { message } } }
            ... on Error { message } } }"""
        demo = uuid4().hex
        selector = self._repository() | {
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [task, stage]} for stage in stages],
        }
        params = [
            {
                "selector": selector,
                "mode": "default",
                "runConfigData": dict(config or {}),
                "executionMetadata": {
                    "tags": [{"key": _PARTITION, "value": region}, {"key": _DEMO, "value": demo}],
                },
            }
            for region in regions
        ]
        answer = self._ask(query, params=params)["launchMultipleRuns"]
        for launched in answer.get("launchMultipleRunsResult", [answer]):
            if "run" not in launched:
                why = [launched.get("message", ""), *(error["message"] for error in launched.get("errors", []))]
                raise DagsterError(f"a run was refused: {' '.join(filter(None, why)) or launched['__typename']}")
        return demo

    def _repository(self) -> dict[str, str]:
        """Return what names the one code location."""
        query = """{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"""
        found = self._ask(query)["repositoriesOrError"].get("nodes", [])
        if not found:
            raise DagsterError(f"Dagster at {self.url} has loaded no tasks")
        return {"repositoryName": found[0]["name"], "repositoryLocationName": found[0]["location"]["name"]}

    def materialized(self, task: str, stages: list[str], regions: list[str]) -> dict[tuple[str, str], float]:
        """When (Unix seconds) each stage of each region was made last; those never made are absent."""
        query = """query($keys: [AssetKeyInput!], $regions: [String!]) { assetNodes(assetKeys: $keys) {
            assetKey { path } latestMaterializationByPartition(partitions: $regions) { timestamp partition } } }"""
        keys = [{"path": [task, stage]} for stage in stages]
        nodes = self._ask(query, keys=keys, regions=regions)["assetNodes"]
        return {
            (node["assetKey"]["path"][-1], made["partition"]): float(made["timestamp"]) / 1000
            for node in nodes
            for made in node["latestMaterializationByPartition"]
            if made
        }

    def reload(self) -> None:
        """Have the code location read its files again."""
        self._ask("mutation { reloadWorkspace { __typename } }")

    def cancel_runs(self, demo: str, seconds: float) -> None:
        """Have the runs of a demo end, and wait so long for them; what cannot be reached any more is left."""
        query = "mutation($ids: [String!]!) { terminateRuns(runIds: $ids) { __typename } }"
        with suppress(DagsterError):
            self._ask(query, ids=[run.run_id for run in self._in_progress(demo)])
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and self._in_progress(demo):
                time.sleep(0.3)

    def _in_progress(self, demo: str) -> list[_Run]:
        ended = {"SUCCESS", "FAILURE", "CANCELED"}
        return [run for run in self._runs((_DEMO, demo)) if run.status not in ended]

    def failures(self, task: str, demo: str, regions: list[str], since: float) -> dict[str, str]:
        """The reason of each region of which a run has failed for good.

        Looked at are the demo's runs and those that the task's job sensor has requested since then (Unix seconds),
        of each region and job the newest; what else runs in Dagster says nothing about them.
        """
        requested = _newest(self._runs((_DEMO, demo)))
        followed = _newest(self._runs(("dagster/sensor_name", f"{task}_jobs"), createdAfter=since))
        return {
            run.region: self._reason(run.run_id)
            for run in map(self._last_try, (*requested, *followed))
            if run.region in regions and run.failed_for_good
        }

    def _runs(self, tag: tuple[str, str], **more: Any) -> Iterator[_Run]:
        """Yield the runs with a tag, the newest first."""
        cursor, page = None, 100
        while True:
            found = self._page({"tags": [{"key": tag[0], "value": tag[1]}], **more}, page, cursor)
            yield from found
            if len(found) < page:
                return
            cursor = found[-1].run_id

    def _page(self, of: dict[str, Any], limit: int, cursor: str | None = None) -> list[_Run]:
        query = """query($of: RunsFilter, $cursor: String, $limit: Int) { runsOrError(filter: $of, cursor: $cursor,
            limit: $limit) { ... on Runs { results { runId status endTime pipelineName tags { key value } } } } }"""
        found = self._ask(query, of=of, cursor=cursor, limit=limit)["runsOrError"]["results"]
        return [
            _Run(
                run["runId"],
                run["status"],
                run["endTime"],
                run["pipelineName"],
                {said["key"]: said["value"] for said in run["tags"]},
            )
            for run in found
        ]

    def _last_try(self, run: _Run) -> _Run:
        """Follow a run to the one that Dagster has started in its place; those need not have its tags."""
        while (again := run.tags.get("dagster/auto_retry_run_id")) and (found := self._page({"runIds": [again]}, 1)):
            run = found[0]
        return run

    def _reason(self, run_id: str) -> str:
        query = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename
            ... on ExecutionStepFailureEvent { error { message errorChain { error { message } } } }
            ... on RunFailureEvent { message }
            ... on AssetCheckEvaluationEvent { evaluation { checkName success severity description } } } } } }"""
        events = self._ask(query, id=run_id)["logsForRun"].get("events", [])
        for event in events:
            evaluation = event.get("evaluation")
            # One that warns stops nothing.
            stops = evaluation and not evaluation["success"] and evaluation["severity"] == "ERROR"
            if stops and evaluation["description"]:
                return f"check {evaluation['checkName']}: {evaluation['description']}"
        messages = [_innermost(event["error"]) for event in events if event.get("error")]
        messages += [event["message"] for event in events if event["__typename"] == "RunFailureEvent"]
        reason = messages[0] if messages else "no reason is logged"
        return f"{reason.strip()} (run {run_id})"

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own http URL
            f"{self.url}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                reply = json.load(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DagsterError(f"Dagster at {self.url} does not answer: {error}") from error
        if errors := reply.get("errors"):
            raise DagsterError(f"Dagster refused a query: {errors[0]['message']}")
        return reply["data"]


def _newest(runs: Iterable[_Run]) -> list[_Run]:
    """Keep of each region and job the first run: they come the newest first."""
    kept: dict[tuple[str, str], _Run] = {}
    for run in runs:
        kept.setdefault((run.region, run.job), run)
    return list(kept.values())


def _innermost(error: dict[str, Any]) -> str:
    """Return what says why; the outer errors of a chain only say where, such as in which step."""
    return [error, *(link["error"] for link in error["errorChain"])][-1]["message"]
