"""Failures of requests to stores: told apart, tried again if they may pass, and raised as errors that name no credentials.

The libraries of stores raise errors of many classes. They are told apart by the status of the answer, and by names of classes,
since none of these libraries is imported here.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from datarax_core.config.addresses import scheme_of
from datarax_core.config.redaction import redacted
from datarax_core.errors import PASSING_ERRNOS, ConfigError, DataFileError

ResultT = TypeVar("ResultT")

TRIES: Final = 8
"""Requests of one range, with the first one."""

FIRST_WAIT: Final = 0.1
"""Seconds before the second try, at most; twice as many before the third, and so on."""

LONGEST_WAIT: Final = 10.0

Kind = Literal["passing", "slow", "absent", "denied", "changed", "short", "whole", "other"]
"""Why a request failed: trouble that may pass, a time-out, no such object, no permission, a condition that does not hold, an
object that ends before the range, a server that sends whole objects only, anything else."""

_PASSING_NAMES: Final = frozenset({
    "ClientConnectionError", "ClientPayloadError", "ConnectionClosedError", "EndpointConnectionError", "HTTPClientError",
    "IncompleteRead", "IncompleteReadError", "ProtocolError", "ResponseParserError", "ResponseStreamingError",
    "ServerDisconnectedError", "ServiceRequestError", "ServiceResponseError", "TransportError",
})  # fmt: skip
_SLOW_NAMES: Final = frozenset(
    {"ConnectTimeoutError", "FSTimeoutError", "ReadTimeoutError", "ServerTimeoutError", "Timeout"}
)
_DENIED_NAMES: Final = frozenset({
    "ClientAuthenticationError", "CredentialRetrievalError", "DefaultCredentialsError", "NoCredentialsError",
    "PartialCredentialsError", "ProfileNotFound", "RefreshError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
})  # fmt: skip
_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or ~/.aws; storage_options: {anon: true} for public ones",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or gcloud auth application-default login; storage_options: {token: anon} for "
    "public ones",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or az login; storage_options: {anon: true} for public "
    "ones",
    "hf": "HF_TOKEN, or hf auth login",
    "https": "~/.netrc",
}
_SAME: Final = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "http": "https"}


class ServedWholeError(ConfigError):
    """A server sends whole objects only, and ranges of one were asked for without a cache to keep it in."""

    def __init__(self, message: str, address: str = "") -> None:
        super().__init__(message)
        self.address = address


@dataclass(frozen=True)
class Failure:
    """Why a request failed."""

    kind: Kind
    cause: str
    """Text of the cause, without credentials."""

    retry_after: float = 0.0
    """Seconds that the server asks to wait."""

    tries: int = 1
    seconds: float = 0.0
    """Since the first try."""

    @property
    def may_pass(self) -> bool:
        """Whether the request is worth sending again."""
        return self.kind in ("passing", "slow")

    def error(self, address: str, place: str = "") -> Exception:
        """Return the error to raise.

        Args:
            address: The object.
            place: What of it was asked for, such as ``bytes 0 to 100``; "" for the object itself.
        """
        shown = redacted(address)
        what = f"{place} of {shown}" if place else shown
        tried = f" (tried {self.tries} times in {self.seconds:.1f} s)" if self.tries > 1 else ""
        failed = f"{what} cannot be read: {self.cause}"
        errors: dict[Kind, Callable[[], Exception]] = {
            "absent": lambda: FileNotFoundError(
                f"no such object: {shown} ({self.cause}); check the address, and what the store lists"
            ),
            "denied": lambda: PermissionError(
                f"permission denied: {shown} ({self.cause}); credentials are taken from {_credentials_of(address)}"
            ),
            "changed": lambda: DataFileError(
                address,
                f"{shown} changed while a source read it: {self.cause}; leave objects as they are, and build the source anew",
            ),
            "short": lambda: DataFileError(address, f"{failed}; the object is cut short, or another one"),
            "whole": lambda: ServedWholeError(
                f"{failed}; set cache_dir, so that the whole object is fetched once", address=address
            ),
            "passing": lambda: ConnectionError(f"{failed}{tried}"),
            "slow": lambda: TimeoutError(f"{failed}{tried}"),
            "other": lambda: OSError(f"{failed}{tried}"),
        }
        return errors[self.kind]()


def _credentials_of(address: str) -> str:
    """Return where credentials for an address are taken from."""
    scheme = scheme_of(address) or ""
    return _CREDENTIALS.get(_SAME.get(scheme, scheme), "the environment")


class FailedError(Exception):
    """A failure on its way to the thread that asked; it never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


async def persistently(request: Callable[[], Awaitable[ResultT]], most: int = TRIES) -> ResultT:
    """Return the result of a request, which is sent again while it fails by trouble that may pass.

    Args:
        request: Sends it.
        most: How many times it is sent.

    Raises:
        FailedError: It failed otherwise, or as many times.
    """
    began, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            return await request()
        except FailedError as failed:
            failure = failed.failure
        except Exception as error:  # noqa: BLE001 - of any library; an unknown one is a failure, too
            failure = failure_of(error)
        if not failure.may_pass or tries >= most:
            # outside of the handler: what the library said may hold credentials, and would be chained
            raise FailedError(replace(failure, tries=tries, seconds=time.monotonic() - began)) from None
        wait = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)
        await asyncio.sleep(max(random.uniform(wait / 2, wait), min(failure.retry_after, 3 * LONGEST_WAIT)))  # noqa: S311 - no secret


def failure_of(error: BaseException) -> Failure:
    """Return why a request failed, from the error of the library that sent it."""
    status = _status_of(error)
    return Failure(_kind_of(error, status), redacted(_text_of(error, status)), retry_after=_retry_after(error))


def _kind_of(error: BaseException, status: int | None) -> Kind:
    names = {cls.__name__ for each in _chain(error) for cls in type(each).__mro__}
    if status is not None and (by_status := kind_of_status(status)) != "other":
        return by_status
    if isinstance(error, FileNotFoundError):
        return "absent"
    if isinstance(error, PermissionError) or names & _DENIED_NAMES or str(error).startswith("Forbidden"):
        return "denied"
    if isinstance(error, TimeoutError) or names & _SLOW_NAMES:
        return "slow"
    if isinstance(error, ConnectionError | EOFError) or names & _PASSING_NAMES:
        return "passing"
    is_busy = status is None and isinstance(error, OSError) and error.errno in PASSING_ERRNOS
    return "passing" if is_busy else "other"


def kind_of_status(status: int) -> Kind:
    """Return why a request failed whose answer had this status of HTTP."""
    known: dict[int, Kind] = {401: "denied", 403: "denied", 404: "absent", 410: "absent", 412: "changed", 416: "short"}
    if status in (408, 425, 429) or status >= 500:
        return "passing"
    return known.get(status, "other")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and the ones that it was raised from."""
    found = [error]
    while found[-1].__cause__ is not None and len(found) < 8:
        found.append(found[-1].__cause__)
    return found


def _status_of(error: BaseException) -> int | None:
    """Return the status of the answer that an error of aiohttp, botocore, gcsfs or Azure tells of; None if it tells of none."""
    for each in _chain(error):
        response: Any = getattr(each, "response", None)
        if isinstance(response, dict):
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(response, int):
                return response
        for name in ("status", "status_code", "code"):
            value = getattr(each, name, None)
            if isinstance(value, int) and 400 <= value < 600:
                return value
    return None


def _retry_after(error: BaseException) -> float:
    headers: Any = getattr(error, "headers", None)
    try:
        return float(headers["Retry-After"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _text_of(error: BaseException, status: int | None) -> str:
    """Return the text of an error in one line: with the status of the answer, or its class where it says little by itself."""
    found = next((each for each in reversed(_chain(error)) if getattr(each, "response", None)), error)
    said: Any = getattr(found, "response", None)
    if status is None and isinstance(error, FileNotFoundError):  # its text is the name
        return "the store has none of this name"
    if status == 412:
        return "it was written to or replaced"
    if isinstance(said, dict) and isinstance(said.get("Error"), dict):  # botocore's
        parts = [str(said["Error"].get(name, "")) for name in ("Code", "Message")]
        text = " ".join(part for part in parts if part and part != str(status))
    else:
        text = str(getattr(error, "message", "") or getattr(error, "strerror", "") or error)
    text = " ".join(text.split())[:300]
    if status is not None:
        return f"HTTP {status} {text}".strip()
    return text if len(text.split()) > 2 else f"{type(error).__name__}{text and f': {text}'}"
