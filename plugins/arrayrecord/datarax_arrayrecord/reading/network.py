"""A check that Google Cloud Storage can be reached: array_record itself goes on trying for minutes."""

import socket
import threading
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_HOST: Final = "storage.googleapis.com"
_PORT: Final = 443
_CONNECT_SECONDS: Final = 3
_SECONDS: Final = 5
"""Seconds in all: the resolver of names has no limit of its own that could be set."""


def require_reachable(address: str) -> None:
    """Raise if no connection to Google Cloud Storage, or to the proxy before it, is made within seconds.

    Args:
        address: What is to be read there, for the message.

    Raises:
        ConnectionError: There is no connection; says why, and what to do.
    """
    host, port = _first_hop()
    failures: list[str] = []
    thread = threading.Thread(target=_connect, args=(host, port, failures), name="datarax-network", daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if thread.is_alive() or failures:
        reason = failures[0] if failures else f"no answer in {_SECONDS} s"
        raise ConnectionError(
            f"{address} cannot be read: there is no connection to {host}:{port} ({reason}); check the network, or copy the "
            "files here, for example with gcloud storage cp, and name the local path"
        )


def _first_hop() -> tuple[str, int]:
    """Return host and port that a connection is made to."""
    proxy = None if proxy_bypass(_HOST) else getproxies().get("https")
    found = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
    return (found.hostname, found.port or 80) if found and found.hostname else (_HOST, _PORT)


def _connect(host: str, port: int, failures: list[str]) -> None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        failures.append(error.strerror or str(error))
