"""The examples in `deploy/` are what they say: manifests are valid, and every command and variable in them exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._daemon.cli import run_command
from dagster_webserver.cli import dagster_webserver

from finetune_assets.cli import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.33"
WORKER = yaml.safe_load((DEPLOY / "worker-job.yaml").read_text())
MANIFESTS = [*yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()), WORKER]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
ENVIRONMENT = dict(
    line.split("=", 1) for line in (DEPLOY / "environment").read_text().splitlines() if line and line[0] != "#"
)


def started(program: str) -> list[list[str]]:
    """The words that follow a program in every command of a manifest that starts it."""
    services = [one["command"] for one in COMPOSE["services"].values() if one.get("image") == "finetune-assets"]
    pods = [one["spec"]["template"]["spec"]["containers"] for one in MANIFESTS if one["kind"] in ("Deployment", "Job")]
    words = services + [container["args"] for containers in pods for container in containers]
    return [one[1:] for one in words if one[0] == program]


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda manifest: f"{manifest['kind']} {manifest['metadata']['name']}"
)
def test_kubernetes_knows_every_field_of_a_manifest(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_documented_command_fills_in_the_job_and_a_name_that_kubernetes_takes() -> None:
    [command] = re.findall(r"sh -c '(sed .*) \| kubectl apply", (ROOT / "docs" / "cluster.md").read_text())
    filled = command.replace("{name}", "ftjob-AbC-1").replace("{job}", "ftjob-AbC")
    made = subprocess.run(["sh", "-c", filled], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    job = yaml.safe_load(made)
    assert job["metadata"]["name"] == "ftjob-abc-1"
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:4] == ["finetune-assets", "worker", "--job", "ftjob-AbC"]


def test_a_service_leads_to_the_pods_and_the_port_of_its_deployment() -> None:
    pods = {one["metadata"]["name"]: one["spec"]["template"] for one in MANIFESTS if one["kind"] == "Deployment"}
    for service in (one for one in MANIFESTS if one["kind"] == "Service"):
        pod = pods[service["metadata"]["name"]]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        [port], [found] = service["spec"]["ports"], pod["spec"]["containers"][0]["ports"]
        assert port["targetPort"] == found["name"] and port["port"] == found["containerPort"]


@pytest.mark.parametrize("words", started("finetune-assets"), ids=" ".join)
def test_every_command_of_ours_is_understood(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context = command.make_context("finetune-assets", [*words, "--help"], resilient_parsing=True)
    name, found, rest = command.resolve_command(context, words)
    assert name == words[0]
    assert {word for word in rest if word.startswith("--")} <= options(found)


@pytest.mark.parametrize(
    ("program", "command"),
    [("dagster-webserver", dagster_webserver), ("dagster-daemon", run_command)],
    ids=["webserver", "daemon"],
)
def test_dagster_s_own_commands_have_the_options_that_they_are_given(program: str, command: Any) -> None:
    asked = {word for words in started(program) for word in words if word.startswith("--")}
    assert asked and asked <= options(command)
    assert f"{program}{' run' * (program == 'dagster-daemon')} --module-name" in (ROOT / "docs/cluster.md").read_text()


def test_the_environment_has_what_dagster_and_the_documentation_name() -> None:
    dagster = (DEPLOY / "dagster.yaml").read_text()
    assert set(re.findall(r"env: (\w+)", dagster)) <= ENVIRONMENT.keys()
    passed = yaml.safe_load(dagster)["run_launcher"]["config"]["ray"]["env_vars"]
    assert passed == sorted(passed)
    documented = (ROOT / "docs" / "environment.md").read_text()
    ours = {name for name in ENVIRONMENT if name.startswith("FINETUNE_ASSETS_")}
    assert {name for name in ours if f"`{name}`" not in documented} == set()
    # A run of Ray finds what every other process finds, but for what is the servers' own.
    servers_own = {"FINETUNE_ASSETS_DATABASE", "FINETUNE_ASSETS_STORE", "FINETUNE_ASSETS_LEASE_SECONDS"}
    assert ENVIRONMENT.keys() - servers_own - {"POSTGRES_PASSWORD"} <= set(passed)


def test_compose_names_no_variable_and_no_service_that_is_not_there() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert set(re.findall(r"(?<!\$)\$\{?(\w+)", text)) <= ENVIRONMENT.keys()
    hosts = set(re.findall(r"(?:@|//)([a-z][\w-]*)(?=[:/])", (DEPLOY / "environment").read_text()))
    assert hosts - {"finetune"} <= COMPOSE["services"].keys()
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= COMPOSE["services"].keys()


def test_the_databases_are_those_that_the_environment_names() -> None:
    made = set(re.findall(r"CREATE DATABASE (\w+);", (DEPLOY / "databases.sql").read_text()))
    assert made == {url.rpartition("/")[2] for url in ENVIRONMENT.values() if url.startswith("postgresql")}


def test_dagster_takes_the_file_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_ray")
    pytest.importorskip("dagster_postgres")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    reference = InstanceRef.from_dir(str(tmp_path))
    assert type(reference.run_launcher).__name__ == "RayRunLauncher", config


def test_the_laptop_s_and_the_cluster_s_dagster_differ_where_the_file_says_so() -> None:
    laptop = yaml.safe_load((ROOT / "finetune_assets" / "pipeline" / "dagster.yaml").read_text())
    cluster = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    different = {key for key in laptop | cluster if laptop.get(key) != cluster.get(key)}
    assert different == {"storage", "run_launcher", "run_coordinator"}
    limits = "tag_concurrency_limits"
    assert laptop["run_coordinator"]["config"][limits] == cluster["run_coordinator"]["config"][limits]


def test_the_image_is_made_of_files_that_there_are() -> None:
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            assert all((ROOT / name).exists() for name in shlex.split(line)[1:-1]), line
    assert os.access(DEPLOY / "cluster.py", os.R_OK)
