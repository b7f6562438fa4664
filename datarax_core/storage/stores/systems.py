"""Stores by the scheme of an address: fsspec's file systems, one of each kind in a process, and none of the parent's in a fork.

An instance of fsspec belongs to one process: its connections are served by a thread that a fork does not have. They are made
anew in a fork, and after a change of the environment that credentials are taken from.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Coroutine, Mapping
from importlib.util import find_spec
from typing import Any, Final, TypeVar

from datarax_core.background import leave_to_parent, renew_in_forks
from datarax_core.config.addresses import READ_SCHEMES, refusal_of, scheme_of
from datarax_core.config.redaction import redacted
from datarax_core.errors import ConfigError

from .failures import failure_of
from .stores import HttpStore, S3Store, Store

ResultT = TypeVar("ResultT")

AT_ONCE: Final = 64
"""Requests under way at once to one store, unless a caller says otherwise."""

_PACKAGES: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    "hf": "huggingface_hub",
}
"""Package that reads a scheme, beside fsspec."""

_TRYING: Final = ("adlfs", "gcsfs", "huggingface_hub")
"""Packages that send a request again by themselves, up to half a minute, which cannot be switched off."""

TRIES_BESIDE_OWN: Final = 2

_EXTRA: Final = "'datarax-core[remote]'"
_OF_STORES: Final = (
    "AWS_",
    "AZURE_",
    "BOTO_",
    "GCE_",
    "GCSFS_",
    "GOOGLE_",
    "HF_",
    "HTTP",
    "NETRC",
    "S3",
    "STORAGE_",
    "http",
)
"""Beginnings of the names of variables that stores and their credentials are found by."""

_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 60


class _Stores:
    """The stores of this process."""

    def __init__(self) -> None:
        self.made: dict[tuple[Any, ...], Store] = {}
        self.lock = threading.Lock()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave the connections to the parent, and fsspec's loop, whose thread does not exist here."""
        leave_to_parent(self.made)
        self.made, self.lock = {}, threading.Lock()
        if "fsspec.asyn" in sys.modules:
            sys.modules["fsspec.asyn"].reset_lock()


_stores: Final = _Stores()


def store_of(address: str, options: Mapping[str, Any] | None = None) -> Store:
    """Return the store that an address is read from.

    Args:
        address: An address with a scheme.
        options: Options of fsspec's file system, as `RemoteOptions.storage_options`.

    Raises:
        ConfigError: A package that reads the scheme is not installed, or does not take the options.
        ValueError: No package reads the scheme.
    """
    scheme = scheme_of(address) or ""
    variables = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_OF_STORES)))
    key = (scheme, json.dumps(options or {}, sort_keys=True, default=repr), variables)
    if (found := _stores.made.get(key)) is not None:
        return found
    with _stores.lock:
        if key not in _stores.made:
            _stores.made[key] = _opened(address, scheme, dict(options or {}))
        return _stores.made[key]


def wait_for(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine that fsspec's loop runs; an interruption of this thread cancels it."""
    from fsspec.asyn import get_loop  # noqa: PLC0415 - the extra is needed only where addresses are read

    running = asyncio.run_coroutine_threadsafe(work, get_loop())
    try:
        return running.result()
    finally:
        running.cancel()


def require_packages(address: str) -> None:
    """Raise unless the packages are installed that read an address.

    Raises:
        ConfigError: They are not; says what to install.
        ValueError: No package reads the scheme.
    """
    scheme = scheme_of(address) or ""
    if scheme not in READ_SCHEMES:
        raise ValueError(refusal_of(redacted(address), READ_SCHEMES))
    package = _PACKAGES[scheme]
    missing = [name for name in ("fsspec", package) if find_spec(name) is None]
    if missing:
        wanted = _EXTRA if package == "aiohttp" else f"{_EXTRA} {package}"
        raise ConfigError(
            f"{redacted(address)} is read by fsspec and {package}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install {wanted}"
        )


def _opened(address: str, scheme: str, options: dict[str, Any]) -> Store:
    require_packages(address)
    try:
        import fsspec  # noqa: PLC0415 - the extra is needed only where addresses are read

        cls = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ConfigError(
            f"{redacted(address)} cannot be read: {error}; pip install {_EXTRA} {_PACKAGES[scheme]}"
        ) from error
    kind: type[Store] = HttpStore if scheme in ("http", "https") else S3Store if scheme in ("s3", "s3a") else Store
    if kind is not HttpStore and "@" in address:  # abfss://container@account.dfs.core.windows.net/...
        options = {**cls._get_kwargs_from_urls(address), **options}
    try:
        system = cls(**_with_defaults(kind, options), skip_instance_cache=True, use_listings_cache=False)
        if kind is S3Store:
            system.retries = 1  # `persistently` tries again, and counts
    except Exception as error:  # noqa: BLE001 - of any library, which may name what it was given
        cause = failure_of(error).cause
        raise ConfigError(f"the store of {redacted(address)} cannot be opened: {cause}; see storage_options") from None
    return kind(system, TRIES_BESIDE_OWN) if _PACKAGES[scheme] in _TRYING else kind(system)


def _with_defaults(kind: type[Store], options: dict[str, Any]) -> dict[str, Any]:
    """Return options with time limits, as many connections as requests are under way, and no tries of their own."""
    if kind is S3Store:
        config = {
            "max_pool_connections": AT_ONCE,
            "retries": {"total_max_attempts": 1},
            **options.get("config_kwargs", {}),
        }
        return {**options, "config_kwargs": config}
    if kind is HttpStore:
        import aiohttp  # noqa: PLC0415 - of the extra

        client = {"auto_decompress": False, "trust_env": True, **options.get("client_kwargs", {})}
        if not isinstance(seconds := client.get("timeout", _READ_SECONDS), aiohttp.ClientTimeout):
            client["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=seconds)
        return {**options, "client_kwargs": client}
    return options
