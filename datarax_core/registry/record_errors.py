"""Errors of decoders: whatever a decoder raises for bytes that it cannot decode is a `RecordError`, also where no source reads.

Libraries raise errors of their own for damaged bytes (``ExtraData``, ``UnicodeDecodeError``, ``struct.error``, ``KeyError``); a
caller should need one ``except``. Trouble that does not come from the bytes, such as a time-out, stays what it is.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

from datarax_core.errors import DataraxError, RecordError, SpecError, is_passing, reason_of


class RecordSpecError(RecordError, SpecError):
    """The bytes of one record can be decoded, and the record differs from the element spec."""


_METHODS: Final = ("decode", "decode_record", "spec_from", "difference")


def raise_record_errors(decoder: type[Any]) -> None:
    """Make the methods of a decoder class that take bytes raise `RecordError` for bytes that they cannot decode."""
    for name in _METHODS:
        method = vars(decoder).get(name)
        if callable(method):
            setattr(decoder, name, _guarded(method))


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(self: Any, given: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, given, *args, **kwargs)
        except NotImplementedError:
            raise
        except Exception as error:
            is_named = isinstance(error, DataraxError) and type(error) is not SpecError
            if is_passing(error) or (is_named and not isinstance(error, RecordError)):
                raise
            several = isinstance(given, Sequence) and not isinstance(given, bytes) and len(given) > 1
            row = _first_bad(method, self, given, args, kwargs) if several else 0
            if isinstance(error, RecordError):
                error.record = row
                raise
            reason = reason_of(error) or type(error).__name__
            raised = RecordSpecError if isinstance(error, SpecError) else RecordError
            raise raised(reason, record=row, reason=reason) from error

    return guarded


def _first_bad(method: Callable[..., Any], decoder: Any, records: Sequence[bytes], args: Any, kwargs: Any) -> int:
    """Return the place of the first record that cannot be decoded by itself; 0 if each of them can."""
    for row, record in enumerate(records):
        try:
            method(decoder, [record], *args, **kwargs)
        except Exception:  # noqa: BLE001 - any error is that of the record
            return row
    return 0
