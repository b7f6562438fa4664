"""Credentials in addresses and options: told from other words, refused in configs, and hidden in texts that are shown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit, urlunsplit

HIDDEN: Final = "***"
"""Shown in place of a credential."""

_WORDS: Final = (
    "key|keyid|sas|sig|pwd|pass|jwt|auth|bearer|cookie|cookies|private|username|user|passphrase|login"  # as whole words
)
_PARTS: Final = "secret|token|passw|signature|credential|authori[sz]|apikey|connection_?string"  # anywhere
_SECRET: Final = re.compile(rf"(?:^|[^a-z0-9])(?:{_WORDS})(?:$|[^a-z0-9])|{_PARTS}", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>)]+")
_SCHEME: Final = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://"
_NO_PORT: Final = r"(?!arn:)[^\s/?#@:\[]*:(?![0-9]*(?:[/?#\s'\"<>),;:\]]|$))"
"""Beginning of a user and password whose signs are not encoded, such as a slash; of a host, a colon is before the port."""

_USER: Final = re.compile(rf"{_SCHEME}(?:(?P<user>[^\s/?#]*)@|{_NO_PORT}\S*@)")
_SPACED_USER: Final = re.compile(rf"{_SCHEME}{_NO_PORT}\S*[ \t].*@")
_TO_SPACE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://\S+")
_VALUE: Final = re.compile(r"(?<=[?&;#])(?P<name>[^=&;#?]+)=(?P<value>[^&#]+?)(?=['\")>\],.:;]*(?:[&#]|$))")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_HARMLESS: Final = frozenset({"", "anon", "cache", "cloud", "google_default"})
"""Values of gcsfs's option ``token`` that name a way to credentials, and hold none."""


def is_secret(name: str) -> bool:
    """Return whether the name of an option, a header or a part of a query says that its value is a credential."""
    return _SECRET.search(_HUMPS.sub("_", name)) is not None


def redacted(text: str) -> str:
    """Return a text with the credentials of all addresses in it hidden: user, password, and the values of signed queries.

    Passwords with signs that an address should have encoded, such as slashes, are hidden up to the last @ that may end them;
    those with spaces, where the text begins with the address.
    """
    if "://" not in text:
        return text
    if (first := _SPACED_USER.match(text)) is not None:
        text = f"{first['scheme']}://{HIDDEN}@{text[first.end() :]}"
    return _TO_SPACE.sub(lambda found: _VALUE.sub(_without_secret, found[0]), _USER.sub(_without_user, text))


def has_credentials(address: str) -> bool:
    """Return whether an address holds a user, a password, or a query with a signature, a key or a token."""
    return _ADDRESS.match(address) is not None and redacted(address) != address


def without_query(address: str) -> str:
    """Return an address as states and fingerprints name it: without user, password, query and fragment; paths unchanged."""
    if not _ADDRESS.match(address):
        return address
    address = redacted(address)
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
        elif isinstance(value, list | tuple):
            found += secrets_of(_by_name(value), f"{name}.")
    return found


def _by_name(items: Sequence[Any]) -> dict[str, Any]:
    """Return items by their numbers, but pairs that begin with a name, as libraries take headers, by that name."""
    return {
        (
            item[0] if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str) else str(number)
        ): item
        for number, item in enumerate(items)
    }


def hidden(value: Any) -> Any:
    """Return a value with the credentials in it hidden, for messages; the same object if there are none."""
    if isinstance(value, str):
        shown = redacted(value)
        return value if shown == value else shown
    if isinstance(value, Mapping):
        kept = {
            key: HIDDEN if is_secret(str(key)) and _holds_text(item) else hidden(item) for key, item in value.items()
        }
        return value if all(kept[key] is item for key, item in value.items()) else kept
    if type(value) in (list, tuple):
        if len(value) == 2 and isinstance(value[0], str) and is_secret(value[0]) and _holds_text(value[1]):
            return type(value)([value[0], HIDDEN])  # as libraries take headers
        items = [hidden(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    return value


def _holds_something(value: Any) -> bool:
    return value not in _HARMLESS if isinstance(value, str) else value is not None and not isinstance(value, bool)


def _holds_text(value: Any) -> bool:
    if isinstance(value, str):
        return _holds_something(value)
    return isinstance(value, bytes) or (isinstance(value, list | tuple) and any(map(_holds_text, value)))


def _is_of_azure(scheme: str) -> bool:
    """Return whether the part before an @ is a container: ``abfss://container@account.dfs.core.windows.net/folder``."""
    return scheme.lower() in ("az", "abfs", "abfss")


def _without_user(found: re.Match[str]) -> str:
    if found["user"] is not None and ":" not in found["user"] and _is_of_azure(found["scheme"]):
        return found[0]
    return f"{found['scheme']}://{HIDDEN}@"


def _without_secret(found: re.Match[str]) -> str:
    if is_secret(unquote_plus(found["name"])):
        return f"{found['name']}={HIDDEN}"
    return f"{found['name']}={_VALUE.sub(_without_secret, found['value'])}"  # where a semicolon is between two parts
