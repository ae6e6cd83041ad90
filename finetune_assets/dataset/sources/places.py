"""Where a source's file is: a path as a person writes it becomes one that can be opened from anywhere."""

from __future__ import annotations

from pathlib import Path

from upath import UPath

from finetune_assets.errors import SourceError


def locate(written: str, folder: Path | None) -> UPath:
    """Find a file or folder: `~` is the home folder; a relative path is looked for in `folder`, then where we run.

    Any fsspec URL (`s3://bucket/table.csv`) is taken as it is.

    Raises:
        SourceError: it is nowhere (the message names every path that was tried), or its file system cannot be asked.
    """
    try:
        places = [UPath(written)] if "://" in written else _local(Path(written).expanduser(), folder)
        found = next((place for place in places if place.exists()), None)
    except (OSError, ImportError, ValueError) as error:
        raise SourceError(f"{written}: cannot be looked for: {error}") from error
    if found is not None and "://" not in written and not found.is_file() and not found.is_dir():
        raise SourceError(f"{written}: is neither a file nor a folder, but a pipe or a device; save it as a file")
    if found is not None:
        return found
    raise SourceError(f"{written}: there is no file or folder at {' nor at '.join(map(str, places))}")


def locate_all(written: str, folder: Path | None) -> list[UPath]:
    """Find the file or folder of a path, or all files that fit it, by name, where its last part holds a `*`.

    Raises:
        SourceError: as `locate`, or nothing fits.
    """
    place, slash, name = written.rpartition("/")
    if "*" not in name:
        return [locate(written, folder)]
    there = locate(f"{place}{slash}" or ".", folder)
    found = sorted((file for file in there.glob(name) if file.is_file()), key=str)
    if not found:
        raise SourceError(f"{written}: no file in {there} fits {name!r}")
    return found


def _local(path: Path, folder: Path | None) -> list[UPath]:
    if path.is_absolute():
        return [UPath(path)]
    bases = [Path.cwd()] if folder is None else [folder.absolute(), Path.cwd()]
    return [UPath(base / path) for base in bases]
