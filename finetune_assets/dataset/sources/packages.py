"""Where the files of a data package lie.

The package itself is not imported: that would cost seconds to find a folder.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from finetune_assets.errors import SourceError

INSTALL = "run: pip install 'finetune_assets[data]'"


def data_folder(package: str, distribution: str) -> Path:
    """Return the `data` folder of an installed package.

    Raises:
        SourceError: the package is not installed; the message says how to install `distribution`.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(f"the package {distribution} is not installed; {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "data"
