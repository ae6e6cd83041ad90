"""Imports run one way, and one library stays in one room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("dagster", ("pipeline", "definitions.py")),
        ("openai", ("provider", "server")),
        (
            "torch",
            (
                "server/base_models.py",
                "server/export.py",
                "server/generation",
                "server/jobs/report.py",
                "server/model",
                "server/training",
            ),
        ),
        ("transformers", ("server/base_models.py", "server/export.py", "server/generation", "server/model")),
        ("bitsandbytes", ("server/model/four_bit.py",)),
        ("fastapi", ("server/api", "server/app.py", "server/services.py")),
        (
            "starlette",
            ("feedback/app", "pipeline/following/webhooks.py", "server/api", "server/app.py", "server/routing"),
        ),
        (
            "uvicorn",
            (
                "connections.py",
                "feedback/app/server.py",
                "pipeline/following/webhooks.py",
                "server/app.py",
                "server/routing",
            ),
        ),
        (
            "PIL",
            (
                "dataset/image_headers.py",
                "dataset/images.py",
                "dataset/contact_sheets.py",
                "dataset/pixels/",
                "server/export.py",
                "server/model/chat_encoding.py",
                "server/model/proof.py",
                "server/model/vision.py",
            ),
        ),
        ("cleanlab", ("dataset/label_errors.py",)),
        ("py3langid", ("dataset/language.py",)),
        ("matplotlib", ("evaluation/charts.py",)),
        ("sklearn", ("evaluation", "dataset/features.py", "dataset/label_errors.py")),
        (
            "scipy",
            (
                "evaluation",
                "dataset/belonging/groups.py",
                "dataset/features.py",
                "dataset/sources/science_facts.py",
                "dataset/teaching_order.py",
                "feedback/store/agreement.py",
            ),
        ),
        (
            "sqlalchemy",
            (
                "common_database.py",
                "dataset/sources/sql.py",
                "feedback/store",
                "server/database",
                "server/salvage.py",
                "server/shortage.py",
            ),
        ),
    ],
)
def test_one_library_has_one_room(library: str, rooms: tuple[str, ...]) -> None:
    package = ROOT / "finetune_assets"
    users = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith((f"import {library}", f"from {library}"))
    ]
    assert [user for user in users if not user.startswith(rooms)] == []


def test_importing_the_package_is_light() -> None:
    code = "import finetune_assets, sys; print(sorted({'dagster', 'torch', 'pandas', 'openai'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_predictor_is_imported_at_once_and_neither_it_nor_a_migration_loads_dagster() -> None:
    code = """
import sys, time
began = time.process_time()
import finetune_assets.predictor
took = time.process_time() - began
import finetune_assets.asking.predictions, finetune_assets.migration, finetune_assets.results.standing
print(took, sorted({"dagster"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, loaded = done.stdout.split(maxsplit=1)
    assert (float(took) < 0.5, loaded.strip()) == (True, "[]"), done.stdout
