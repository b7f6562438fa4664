"""Credentials told from other words, and removed from addresses and texts that are shown."""

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_SECRET: Final = re.compile(
    r"(?:^|[^a-z0-9])(?:key|keyid|secret|token|password|passwd|pwd|passphrase|signature|sig|credentials?|auth|authorization|"
    r"cookies?|bearer|apikey|private|username|user|account_key|sas)(?:$|[^a-z0-9])|"
    r"secret|token|password|passwd|signature|credential|authoriz|apikey|connection_?string",
    re.IGNORECASE,
)
_IN_TEXT: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>)]+")
HIDDEN: Final = "***"


def is_secret(name: str) -> bool:
    """Return whether the name of an option, a header or a part of a query says that its value is a credential."""
    return _SECRET.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)) is not None


def redacted(text: str) -> str:
    """Return a text with the credentials of all addresses in it hidden: user, password, and the values of signed queries."""
    return _IN_TEXT.sub(lambda found: _redacted_address(found[0]), text)


def has_credentials(address: str) -> bool:
    """Return whether an address holds a user, a password, or a query with a signature, a key or a token."""
    return redacted(address) != address


def named(address: str) -> str:
    """Return an address as states and fingerprints name it: without user, password and query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _redacted_address(address: str) -> str:
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(is_secret(name) for name, _ in pairs):
        query = urlencode([(name, HIDDEN if is_secret(name) else value) for name, value in pairs], safe="*")
    if not at and query == parts.query:
        return address
    return urlunsplit((parts.scheme, f"{HIDDEN}@{host}" if user else host, parts.path, query, parts.fragment))
