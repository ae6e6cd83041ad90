"""A server's folder whose database is lost, damaged, rolled back or another's, brought to where a server takes it.

The database that goes on is the newest that is sound: the present one where it only disagrees with the folders, else
the last snapshot. Trained models that it does not know get their rows from the cards beside their weights. Nothing is
deleted: what is replaced, and what remains unknown, is moved to `lost+found`.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from finetune_assets.server.database import seal
from finetune_assets.server.database.jobs import SUCCEEDED
from finetune_assets.server.database.models import CARD, CARD_FIELDS
from finetune_assets.server.database.schema import Job, StoredFile, TunedModel, new_id
from finetune_assets.server.database.sqlite_file import copy
from finetune_assets.server.database.stores import SNAPSHOTS, Stores
from finetune_assets.server.home import locked
from finetune_assets.server.removal import LOST

logger = logging.getLogger(__name__)


def salvage(home: Path) -> list[str]:
    """Make `home` fit to be served again; say in sentences what was done, none where nothing was wrong.

    Raises:
        HomeInUseError: a server runs on it.
    """
    with locked(home):
        try:
            seal.check(home)
        except seal.SealBrokenError as broken:
            done = [str(broken).partition(". Nothing was deleted")[0]]
            done += _replace(home, broken.fault)
        else:
            return []
        (home / seal.SEAL).unlink(missing_ok=True)
        stores = Stores(home)
        try:
            done += _adopt(stores)
            done += _missing(stores)
            stores.sweep()
            stores.models.remove_leftovers()
            stores.finish()
        finally:
            stores.close()
    if (home / LOST).exists():
        done.append(f"what no record speaks of lies in {home / LOST}; nothing was deleted")
    return done


def _replace(home: Path, fault: seal.Fault) -> Iterator[str]:
    """Put the newest sound snapshot in place of a database that cannot be used."""
    if fault in ("older", "newer"):
        yield "the database is used as it is"
        return
    path = home / seal.DATABASE
    wanted = seal.read(home)
    for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if part.exists() or part.is_symlink():
            kept = home / LOST / f"{part.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            kept.parent.mkdir(exist_ok=True)
            part.rename(kept)
            yield f"{part.name} was moved to {kept}"
    for snapshot in sorted((home / SNAPSHOTS).glob("*.db"), reverse=True):
        with suppress(sqlite3.DatabaseError):
            found = seal.look(snapshot)
            if found is not None and (wanted is None or found.home == wanted.home):
                copy(snapshot, path)
                yield f"the snapshot {snapshot.name} of the database was put in its place"
                return
    yield "there is no sound snapshot of the database, so a new one was begun"


def _adopt(stores: Stores) -> Iterator[str]:
    """Give trained models their rows back, from the cards beside their weights."""
    for card in sorted((stores.home / "models").glob(f"*/{CARD}")):
        try:
            said = json.loads(card.read_bytes())
            values = {field: said[field] for field in CARD_FIELDS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read: %s", card, error)
            continue
        if (card.parent / "model").is_dir() and _add(stores, values, card.parent.name):
            yield f"the model {values['tuned_model']} was found again"


def _add(stores: Stores, card: dict[str, Any], folder: str) -> bool:
    """Add the rows of a job that has a model; whether they were missing."""
    with stores.database.writing() as session:
        if session.scalar(select(TunedModel).where(TunedModel.id == card["tuned_model"])) is not None:
            return False
        job = session.scalar(select(Job).where(Job.id == card["id"]))
        if job is None:
            job = Job(**card, integrations=None, validated=True)
            session.add(job)
        job.status, job.finished_at = SUCCEEDED, int(time.time())
        made = {"job_id": job.id, "base": job.base}
        session.add(TunedModel(id=job.tuned_model, path=f"{folder}/model", **made))
        for path in (stores.home / "models" / folder).glob("checkpoint-*"):
            step = int(path.name.removeprefix("checkpoint-"))
            name = f"{job.tuned_model}:ckpt-step-{step}"
            if session.scalar(select(TunedModel).where(TunedModel.id == name)) is None:
                named = {"id": name, "path": f"{folder}/{path.name}", "step": step}
                session.add(TunedModel(**named, **made, checkpoint_id=new_id("ftckpt_"), metrics={"step": step}))
    return True


def _missing(stores: Stores) -> Iterator[str]:
    """Count the files whose bytes are not there."""
    with stores.database.reading() as session:
        contents = session.scalars(select(StoredFile.content).where(StoredFile.deleted.is_(False))).all()
        total = session.scalar(select(func.count()).select_from(StoredFile)) or 0
    gone = sum(not (stores.home / "files" / content).exists() for content in contents)
    yield f"the database speaks of {total} files" + (f"; the bytes of {gone} are gone" if gone else "")
