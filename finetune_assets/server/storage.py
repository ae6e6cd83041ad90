"""Where bytes that outlive a process are kept, under names such as `files/<SHA-256>`: in the home's own folders."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from finetune_assets.server.durable import publish
from finetune_assets.server.removal import Removal


class Storage:
    """The home's own folders. `bucket.Bucket` is an object store that several homes share."""

    shared = False
    """Whether other homes keep theirs here too."""
    removed_at_once = 1000
    """How many names may be removed while nobody else writes to the database."""

    def __init__(self, home: Path, removal: Removal) -> None:
        self._home = home
        self._removal = removal

    def send(self, scratch: Path, name: str) -> None:
        """Bring a complete file to where it is to be kept, which may take long; nobody speaks of it yet."""

    def keep(self, scratch: Path, name: str) -> None:
        """Give a complete file its name, in place of what has it. It is no longer at `scratch` then."""
        publish(scratch, self._path(name))

    def publish(self, folder: Path, name: str) -> str:
        """Keep a complete folder for a row to speak of, `name` being one that no earlier attempt has used.

        Returns the name to be spoken of: a folder in the home stays where it is.
        """
        del name
        return str(folder.relative_to(self._home))

    def fetch(self, name: str) -> Path:
        """Say where a file or a published folder can be read; nothing may be there.

        Raises:
            FileNotFoundError: it is nowhere.
            StoreUnreachableError: it could not be brought here.
        """
        return self._path(name)

    def written_at(self, name: str) -> float:
        """Say when a file was stored, in Unix seconds; 0 where that is not known."""
        try:
            return self._path(name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def remove(self, name: str) -> None:
        """Remove a file or folder whose record says that it is deleted."""
        with self.or_later():
            self._removal.remove(self._path(name))

    def or_later(self) -> AbstractContextManager[None]:
        """Leave to the next sweep what cannot be removed now."""
        return self._removal.or_later()

    def set_aside(self, name: str) -> None:
        """Move what no record speaks of out of the way."""
        self._removal.set_aside(self._path(name))

    def names(self, folder: str) -> list[str]:
        """Name what is in a folder."""
        return [path.name for path in (self._home / folder).iterdir()]

    def tidy(self) -> None:
        """Remove what can be brought here again."""

    def _path(self, name: str) -> Path:
        # Names come from the database, which may be somebody else's by a backup: nothing outside is read or removed.
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise FileNotFoundError(f"{name!r} leads out of the server's folder")
        return self._home / name
