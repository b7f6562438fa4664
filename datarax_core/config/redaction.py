"""Credentials in addresses and options: told from other words, refused in configs, and hidden in texts that are shown."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

HIDDEN: Final = "***"
"""Shown in place of a credential."""

_WORDS: Final = (
    "key|keyid|sas|sig|pwd|auth|bearer|cookie|cookies|private|username|user|passphrase|login"  # as whole words
)
_PARTS: Final = "secret|token|passw|signature|credential|authori[sz]|apikey|connection_?string"  # anywhere
_SECRET: Final = re.compile(rf"(?:^|[^a-z0-9])(?:{_WORDS})(?:$|[^a-z0-9])|{_PARTS}", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>)]+")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_HARMLESS: Final = frozenset({"", "anon", "cache", "cloud", "google_default"})
"""Values of gcsfs's option ``token`` that name a way to credentials, and hold none."""


def is_secret(name: str) -> bool:
    """Return whether the name of an option, a header or a part of a query says that its value is a credential."""
    return _SECRET.search(_HUMPS.sub("_", name)) is not None


def redacted(text: str) -> str:
    """Return a text with the credentials of all addresses in it hidden: user, password, and the values of signed queries."""
    return _ADDRESS.sub(lambda found: _without_credentials(found[0]), text) if "://" in text else text


def has_credentials(address: str) -> bool:
    """Return whether an address holds a user, a password, or a query with a signature, a key or a token."""
    return _ADDRESS.match(address) is not None and redacted(address) != address


def without_query(address: str) -> str:
    """Return an address as states and fingerprints name it: without user, password, query and fragment; paths unchanged."""
    if not _ADDRESS.match(address):
        return address
    parts = urlsplit(address)
    if parts.scheme.lower() not in ("http", "https"):  # elsewhere, a ? or # may be part of the name
        scheme, _, rest = address.partition("://")
        host, slash, name = rest.partition("/")
        host = host if _is_of_azure(scheme) else host.rpartition("@")[2]
        return f"{scheme}://{host}{slash}{name.partition('?versionId=')[0]}"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def require_no_credentials(address: str) -> str:
    """Return an address or path unchanged; for validators of fields that take one.

    Raises:
        ValueError: It holds credentials, which are not shown.
    """
    if has_credentials(address):
        raise ValueError(
            f"{redacted(address)!r} holds credentials, and configs end in states, logs and repositories; name the address "
            "without them: they are taken from the environment or the provider's own files (of https://: ~/.netrc)"
        )
    return address


def secrets_of(options: Mapping[str, Any], before: str = "") -> list[str]:
    """Return the names of options that hold credentials, at any depth, such as ``client_kwargs.auth``."""
    found: list[str] = []
    for key, value in options.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found += [name] if is_secret(str(key)) else secrets_of(value, f"{name}.")
        elif (is_secret(str(key)) and _holds_something(value)) or (isinstance(value, str) and has_credentials(value)):
            found.append(name)
    return found


def hidden(value: Any) -> Any:
    """Return a value with the credentials in it hidden, for messages; the same object if there are none."""
    if isinstance(value, str):
        shown = redacted(value)
        return value if shown == value else shown
    if isinstance(value, Mapping):
        kept = {
            key: HIDDEN if isinstance(item, str) and is_secret(str(key)) and _holds_something(item) else hidden(item)
            for key, item in value.items()
        }
        return value if all(kept[key] is item for key, item in value.items()) else kept
    if type(value) in (list, tuple):
        items = [hidden(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    return value


def _holds_something(value: Any) -> bool:
    return value not in _HARMLESS if isinstance(value, str) else value is not None and not isinstance(value, bool)


def _is_of_azure(scheme: str) -> bool:
    """Return whether the part before an @ is a container: ``abfss://container@account.dfs.core.windows.net/folder``."""
    return scheme.lower() in ("az", "abfs", "abfss")


def _without_credentials(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:  # no address after all, such as "s3://[a"
        return address
    user, at, host = ("", "", parts.netloc) if _is_of_azure(parts.scheme) else parts.netloc.rpartition("@")
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(is_secret(name) for name, _ in pairs):
        query = urlencode([(name, HIDDEN if is_secret(name) else value) for name, value in pairs], safe="*")
    if not at and query == parts.query:
        return address
    return urlunsplit((parts.scheme, f"{HIDDEN}@{host}" if user else host, parts.path, query, parts.fragment))
