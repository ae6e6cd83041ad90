"""Writes the locks, and from them what is in them: `make locks`, after every change of dependencies.

`users.txt`     everything that users may install, with the hashes of all its wheels, by platform
`dev.txt`       the same with what developers need
`sbom.cdx.json` what `users.txt` installs, as a software bill of materials (CycloneDX 1.6)
`licences.md`   under which licence each of it is

Versions are those of `constraints.txt`, which `make` installs from: a lock with hashes would forbid wheels that an
index of one's own builds, of torch for example.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
_PIN = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9, -]+\])?==([^ ;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_ELSEWHERE = {
    "cuda-": "NVIDIA Proprietary Software",
    "nvidia-": "NVIDIA Proprietary Software",
    "triton": "MIT",
    "adlfs": "BSD-3-Clause",
    "azure-": "MIT",
    "bitsandbytes": "MIT",
    "decorator": "BSD-2-Clause",
    "gcsfs": "BSD-3-Clause",
    "gepa": "MIT",
    "google-": "Apache-2.0",
    "grpc-google-iam-v1": "Apache-2.0",
    "grpcio-status": "Apache-2.0",
    "isodate": "BSD-3-Clause",
    "msal": "MIT",
    "oauthlib": "BSD-3-Clause",
    "proto-plus": "Apache-2.0",
    "pyasn1": "BSD-2-Clause",
    "requests-oauthlib": "ISC",
}
"""Licences of what one machine does not install: it is for other platforms, or for stores elsewhere."""
_NAMES = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    name: str
    version: str
    hashes: tuple[str, ...]


def pins(lock: str) -> Iterator[Pin]:
    """Read the packages of a lock."""
    found = list(_PIN.finditer(lock))
    for pin, following in zip(found, [*found[1:], None], strict=True):
        block = lock[pin.start() : following.start() if following else None]
        yield Pin(pin[1], pin[2], tuple(_HASH.findall(block)))


def extras() -> list[str]:
    """Name the extras that users may install."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [extra for extra in declared if extra not in ("dev", "local")]


def licence(name: str) -> str:
    """Say under which licence a package is, as its own metadata say."""
    try:
        said: Any = metadata(name)
    except PackageNotFoundError:
        if elsewhere := next((licence for start, licence in _ELSEWHERE.items() if name.startswith(start)), None):
            return elsewhere
        told = f"the licence of {name} is not known, as it is not installed here"
        raise SystemExit(f"{told}: set the environment up again, or state it in {Path(__file__).name}") from None
    if expression := said.get("License-Expression"):
        return expression
    classes: list[str] = said.get_all("Classifier") or []
    classified = [line.rpartition(" :: ")[2] for line in classes if line.startswith("License")]
    named = " AND ".join(_NAMES.get(one, one) for one in classified if one != "OSI Approved")
    return named or (said.get("License") or "see its files").splitlines()[0].strip()


def bill(locked: list[Pin]) -> str:
    """Write the bill of materials; the same of the same lock."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{pin.name}@{pin.version}",
            "name": pin.name,
            "version": pin.version,
            "purl": f"pkg:pypi/{pin.name}@{pin.version}",
            "licenses": [{"license": {"name": licence(pin.name)}}],
        }
        for pin in locked
    ]
    about = {"component": {"type": "application", "name": "finetune_assets", "bom-ref": "finetune_assets"}}
    told = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": about, "components": components}
    return json.dumps(told, indent=1) + "\n"


def licences(locked: list[Pin]) -> str:
    """Write the table of licences."""
    rows = "".join(f"| {pin.name} | {pin.version} | {licence(pin.name)} |\n" for pin in locked)
    return f"# Licences\n\nOf what `users.txt` installs.\n\n| package | version | licence |\n|---|---|---|\n{rows}"


def main() -> None:
    """Write all files."""
    for name, chosen in (("users", extras()), ("dev", [*extras(), "dev"])):
        wanted = [part for extra in chosen for part in ("--extra", extra)]
        how = ["--universal", "--python-version", "3.11.5", "--constraint", "constraints.txt", "--generate-hashes"]
        # To pip a pin without the extra that something needs is none: they are not stripped.
        quiet = [
            "--no-header",
            "--no-annotate",
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--quiet",
        ]
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *wanted, *how, *quiet]
        target = ["--output-file", f"locks/{name}.txt"]
        subprocess.run([*command, *target], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    locked = list(pins((HERE / "users.txt").read_text()))
    (HERE / "sbom.cdx.json").write_text(bill(locked))
    (HERE / "licences.md").write_text(licences(locked))


if __name__ == "__main__":
    main()
