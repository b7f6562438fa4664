"""Files in the user's cache folder that keep tables: checked when they are read, and written atomically."""

import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

FOLDER_VARIABLE: Final = "DATARAX_CACHE_DIR"
"""Environment variable that names another folder than the user's cache folder."""

_CHECKSUM_BYTES: Final = 16
_warned: Final[set[str]] = set()


def cache_folder() -> Path:
    """Return the folder of tables: ``$DATARAX_CACHE_DIR/tables``, or one in the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named) / "tables"
    try:
        import platformdirs  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - if it happens to be there
    except ImportError:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "datarax" / "tables"
    return Path(platformdirs.user_cache_path("datarax")) / "tables"


class TableFile:
    """The file that keeps one table.

    Args:
        name: What the table is of, as a digest: other data, or another computation, has another name.
    """

    def __init__(self, name: str) -> None:
        self._path = cache_folder() / f"{name}.table"

    def read(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray | None:
        """Return the table; None if it is not kept, damaged, or of another form. It is read, not mapped."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return None
        body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if len(content) <= _CHECKSUM_BYTES or _checksum(body) != checksum:
            return None
        try:
            table: np.ndarray = np.load(io.BytesIO(body), allow_pickle=False)
        except (OSError, ValueError):
            return None
        return table if table.shape == shape and table.dtype == dtype else None

    def write(self, table: np.ndarray) -> None:
        """Keep a table; a folder that cannot be written to is warned of once."""
        buffer = io.BytesIO()
        np.save(buffer, table, allow_pickle=False)
        body = buffer.getbuffer()
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp", delete=False) as file:
                try:
                    file.write(body)
                    file.write(_checksum(body))
                    file.close()
                    os.replace(file.name, self._path)  # noqa: PTH105 - two processes write the same bytes
                finally:
                    Path(file.name).unlink(missing_ok=True)
        except OSError as error:
            _warn_once(str(folder), error.strerror or str(error))


def _checksum(body: Any) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest()


def _warn_once(folder: str, reason: str) -> None:
    if folder not in _warned:
        _warned.add(folder)
        warnings.warn(
            f"tables cannot be kept in {folder} ({reason}), and are made anew by each process; set {FOLDER_VARIABLE} to a "
            "folder that can be written to",
            stacklevel=4,
        )
