"""Addresses with a scheme, such as ``file:///data/train`` and ``gs://bucket/train``, told apart from paths of this machine."""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import unquote

REMOTE: Final = r"^(?![Ff][Ii][Ll][Ee]:)[A-Za-z][A-Za-z0-9+.\-]*://"
"""Regular expression, also for JSON Schema: addresses of files that are not on this machine."""

READ_SCHEMES: Final = frozenset({"abfs", "abfss", "az", "gcs", "gs", "hf", "http", "https", "s3", "s3a"})
"""Schemes of addresses that sources read in place, with the extra ``datarax-core[remote]``."""

_EITHER_CASE: Final = "|".join(
    "".join(f"[{c.upper()}{c}]" for c in scheme) for scheme in sorted({"file", *READ_SCHEMES})
)
NOT_READ: Final = rf"^(?!({_EITHER_CASE}):)[A-Za-z][A-Za-z0-9+.\-]*://"
"""Regular expression, also for JSON Schema: addresses of all other schemes."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_FILE: Final = re.compile(r"file:(?=/)(?://(?P<host>[^/]*))?(?P<place>/.*)?", re.IGNORECASE | re.DOTALL)
_COPY: Final = {
    "gs": "gcloud storage cp",
    "s3": "aws s3 cp",
    "http": "curl -O",
    "https": "curl -O",
    "hdfs": "hdfs dfs -get",
    "hf": "hf download",
}
"""Commands that copy files from the addresses of a scheme."""


def scheme_of(path: str) -> str | None:
    """Return the scheme of the address of a file on another machine, in small letters; None for a path of this machine.

    ``file:///data`` is on this machine.
    """
    found = _SCHEME.match(path)
    scheme = found[1].lower() if found else None
    return None if scheme == "file" else scheme


def without_file_scheme(path: str) -> str:
    """Return the path that a ``file:///`` address names, also with the one slash that ``Path`` leaves; other texts unchanged.

    Raises:
        ValueError: The address names another machine, or a relative path.
    """
    found = _FILE.fullmatch(path)
    if found is None:
        return path
    place = found["place"]
    if (found["host"] or "").lower() not in ("", "localhost") or not place:
        raise ValueError(
            f"{path!r} names no absolute path of this machine; write file:///folder/file, with three slashes, or a plain path"
        )
    return unquote(str(place))


def refusal_of(address: str, read: Collection[str] = ()) -> str:
    """Return the message for an address that is not read; it says what to do.

    Args:
        address: An address with a scheme.
        read: Schemes that are read.
    """
    scheme = scheme_of(address) or "file"
    schemes = f" (of addresses, only {', '.join(f'{name}://' for name in sorted(read))})" if read else ""
    how = f", for example with {_COPY[scheme]}," if scheme in _COPY else ""
    return (
        f"{address!r} is not on this machine, and {scheme}:// is not read{schemes}; copy the files here{how} or mount the "
        "storage, and name the local path"
    )


def require_local(path: str) -> str:
    """Return a path of this machine unchanged; for validators of fields that take no address.

    Raises:
        ValueError: It is the address of a file on another machine.
    """
    if scheme_of(path) is not None:
        raise ValueError(refusal_of(path))
    return path
