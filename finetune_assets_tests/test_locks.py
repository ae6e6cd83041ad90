"""What users install is locked by hashes, and told: a bill of materials and licences that match the lock."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "locks"
PIN = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9, -]+\])?==([^ ;\\]+)(.*)", re.MULTILINE)
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, str]:
    return {pin[1]: pin[2] for pin in PIN.finditer((LOCKS / name).read_text())}


def plain(requirement: str) -> str:
    """The name of a requirement as indexes write it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@pytest.mark.parametrize("lock", ["users.txt", "dev.txt"])
def test_every_package_of_a_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (LOCKS / lock).read_text()
    for block in re.split(r"\n(?=[a-z])", text.strip()):
        assert PIN.match(block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links", text)


@pytest.mark.parametrize("lock", ["users.txt", "dev.txt"])
def test_what_a_package_needs_with_an_extra_is_locked_with_it(lock: str) -> None:
    # pip takes a pin without the extra for none, and refuses the lock.
    with_extras = re.compile(r"^([a-z0-9-]+)(?:\[([a-z0-9, -]+)\])?==", re.MULTILINE)
    locked = {pin[1]: set(re.split(", *", pin[2] or "")) for pin in with_extras.finditer((LOCKS / lock).read_text())}
    for name in locked:
        with suppress(PackageNotFoundError):
            for needed in map(Requirement, requires(name) or []):
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    assert needed.extras <= locked.get(plain(needed.name), needed.extras), f"{name} needs {needed}"


@pytest.mark.parametrize("lock", ["users.txt", "dev.txt"])
def test_a_lock_has_the_versions_that_make_installs(lock: str) -> None:
    kept = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    constraints = {plain(name): version for name, version in kept.items()}
    locked = pins(lock)
    assert {name: version for name, version in locked.items() if constraints.get(name, version) != version} == {}
    # What is not of this machine's kind: GPUs, and tools that only build.
    strange = [name for name in locked if name not in constraints]
    assert [name for name in strange if not name.startswith(("cuda-", "nvidia-", "triton", "setuptools"))] == []


def test_users_get_all_that_is_declared_and_nothing_that_only_developers_need() -> None:
    users, optional = pins("users.txt"), DECLARED["optional-dependencies"]
    wanted = {plain(one) for extra, needed in optional.items() if extra not in ("dev", "local") for one in needed}
    wanted |= {plain(one) for one in DECLARED["dependencies"]}
    assert wanted - set(users) == set()
    # Azure's client needs it too.
    only_dev = {plain(one) for one in optional["dev"]} - wanted - {"cryptography"}
    assert only_dev <= set(pins("dev.txt"))
    assert only_dev & set(users) == set()


def test_the_bill_of_materials_and_the_licences_are_those_of_the_lock() -> None:
    users = pins("users.txt")
    bill = json.loads((LOCKS / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert {part["name"]: part["version"] for part in bill["components"]} == users
    rows = [row.strip("| ").split(" | ") for row in (LOCKS / "licences.md").read_text().splitlines() if "|" in row]
    assert {name: version for name, version, _ in rows[2:]} == users
    told = {part["name"]: part["licenses"][0]["license"]["name"] for part in bill["components"]}
    assert told == {name: licence for name, _, licence in rows[2:]}
    # Of a library one may not use in a program under another licence there is none; LGPL is a library's.
    assert [name for name, licence in told.items() if re.search(r"(?<!L)(?<!Lesser )A?GPL", licence)] == []
