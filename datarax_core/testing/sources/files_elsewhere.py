"""Files of a source in another place: copies of them, and batches of both compared as if the files lay in one place."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np

from datarax_core.config.models import StructuralConfig
from datarax_core.records.spec import Batch

_MOST_COPIED: Final = 1 << 26


def copied(value: Any, folder: Path) -> Any:
    """Return the path of a copy of a small file or folder in ``folder``, or a list of such; None for all other values."""
    if isinstance(value, list | tuple) and value:
        copies = [copied(each, folder / str(number)) for number, each in enumerate(value)]
        return copies if all(copies) else None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or not Path(value).exists():
        return None
    path, copy = Path(value), folder / Path(value).name
    if sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path])) > _MOST_COPIED:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, copy, dirs_exist_ok=True)
    else:
        shutil.copy2(path, copy)
    return str(copy)


def paths_instead(config: StructuralConfig, other: StructuralConfig) -> dict[str, str]:
    """Return the paths in another config that stand in place of those in ``config``: by each, the path of ``config``."""
    found: dict[str, str] = {}
    for name in type(config).model_fields:
        here, there = getattr(config, name), getattr(other, name, None)
        pairs = (
            zip(here, there, strict=False) if isinstance(here, tuple) and isinstance(there, tuple) else [(here, there)]
        )
        moved = {one: own for own, one in pairs if isinstance(own, str) and isinstance(one, str) and one != own}
        found.update({one: own for one, own in moved.items() if Path(one).is_absolute() and Path(one).exists()})
    return found


def as_if_at(batch: Batch, paths: Mapping[str, str]) -> Batch:
    """Return a batch with each of these paths in its texts replaced by another: some sources serve the names of files."""
    return jax.tree.map(lambda column: _renamed(column, paths), batch) if paths else batch


def _renamed(column: Any, paths: Mapping[str, str]) -> Any:
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "OSU":
        return column
    renamed = np.empty(column.shape, object)
    for place, value in np.ndenumerate(column):
        renamed[place] = _with_paths(value, paths)
    return renamed


def _with_paths(value: Any, paths: Mapping[str, str]) -> Any:
    for there, here in paths.items():
        if isinstance(value, bytes):
            value = value.replace(os.fsencode(there), os.fsencode(here))
        elif isinstance(value, str):
            value = value.replace(there, here)
    return value
