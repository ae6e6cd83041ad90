"""The few GraphQL calls to a running Dagster that the demo needs."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

from finetune_assets.errors import FinetuneAssetsError


class DagsterError(FinetuneAssetsError, RuntimeError):
    """Dagster refused a request."""


class DagsterClient:
    """Speaks to the webserver at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def wait_until_loaded(self, seconds: float = 120) -> None:
        """Wait for the code location.

        Raises:
            DagsterError: it does not load; the message says why.
        """
        query = """{ workspaceOrError { ... on Workspace { locationEntries {
            loadStatus locationOrLoadError { __typename ... on PythonError {
                message errorChain { error { message } } } } } } } }"""
        deadline = time.monotonic() + seconds
        while True:
            for entry in self._ask(query)["workspaceOrError"].get("locationEntries", []):
                found = entry["locationOrLoadError"] or {}
                if found.get("__typename") == "PythonError":
                    raise DagsterError(
                        f"the code location does not load: {_innermost(found)}\n`.venv/bin/dg check defs` says where"
                    )
                if entry["loadStatus"] == "LOADED":
                    return
            if time.monotonic() > deadline:
                raise DagsterError(f"the code location did not load within {seconds:.0f} s")
            time.sleep(0.5)

    def start_backfill(self, task: str, stages: list[str], regions: list[str]) -> str:
        """Materialise `stages` for all `regions`; returns the backfill's id."""
        query = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
            __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
        params = {
            "assetSelection": [{"path": [task, stage]} for stage in stages],
            "partitionNames": regions,
            "title": f"demo: {task}",
        }
        launched = self._ask(query, params=params)["launchPartitionBackfill"]
        if "backfillId" not in launched:
            raise DagsterError(f"the backfill was refused: {launched.get('message', launched['__typename'])}")
        return launched["backfillId"]

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

    def failures(self, since: float) -> dict[str, str]:
        """The reason of each region whose newest run since then (Unix seconds) failed."""
        query = """query($filter: RunsFilter) { runsOrError(filter: $filter, limit: 100) { ... on Runs { results {
            runId status tags { key value } } } } }"""
        runs = self._ask(query, filter={"createdAfter": since})["runsOrError"]["results"]
        newest: dict[str, dict[str, Any]] = {}
        for run in runs:
            region = {tag["key"]: tag["value"] for tag in run["tags"]}.get("dagster/partition")
            if region:
                newest.setdefault(region, run)
        failed = {region: run for region, run in newest.items() if run["status"] in ("FAILURE", "CANCELED")}
        return {region: self._reason(run["runId"]) for region, run in failed.items()}

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
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            reply = json.load(answer)
        if errors := reply.get("errors"):
            raise DagsterError(f"Dagster refused a query: {errors[0]['message']}")
        return reply["data"]


def _innermost(error: dict[str, Any]) -> str:
    """Return what says why; the outer errors of a chain only say where, such as in which step."""
    return [error, *(link["error"] for link in error["errorChain"])][-1]["message"]
