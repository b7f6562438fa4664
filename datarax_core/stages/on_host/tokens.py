"""A stage on the host that makes tokens of text: `TokenizeBytes`."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import jax
import numpy as np
from flax import nnx
from pydantic import ConfigDict, Field

from datarax_core.config.base import Count, Name, NonNegative
from datarax_core.errors import StageError
from datarax_core.records.dtypes import is_text
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec
from datarax_core.registry.stages import Stage
from datarax_core.stages.field_paths import leaf_of, struct_of
from datarax_core.stages.fields import NewName

from .columns import described, objects, put

_BYTES: Final = 256
_NEVER_IN_UTF8: Final = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))

Token = Annotated[NonNegative, Field(le=2**31 - 1)]


class TokenizeBytes(Stage):
    """Stage on the host that makes tokens of a field of text or bytes: one token a byte, of text in UTF-8.

    The result is of varying length; ``pad`` brings it to one. A byte ``b`` becomes the token ``b + offset``, so that tokens
    below ``offset`` are free for special ones.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "tokenize_bytes", "field": "text", "to": "tokens", "bos": 256, "eos": 257}]
        }
    )

    type: Literal["tokenize_bytes"] = "tokenize_bytes"
    field: Name = Field(description="The field of text or bytes, by dotted name.")
    to: NewName | None = Field(
        default=None, description="The name of a new field for the tokens; without it, they replace the text."
    )
    offset: Token = Field(default=0, description="Number added to each byte.")
    bos: Token | None = Field(default=None, description="A token before the first byte of each record.")
    eos: Token | None = Field(default=None, description="A token after the last byte of each record.")
    length: Count | None = Field(
        default=None,
        description="The most tokens of a record, special tokens included: bytes at the end are left out for it.",
    )
    dtype: Literal["uint8", "uint16", "int32", "int64"] = Field(default="int32", description="The dtype of the tokens.")

    on_host: ClassVar[bool] = True

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage itself, after a check of the field and of the special tokens."""
        self.element_spec(spec)
        return self

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec with the tokens, whose one axis varies.

        Raises:
            StageError: The field is none of text or bytes, or a token is no token of its own, or does not fit the dtype.
        """
        struct = struct_of(spec, self.field)
        if struct.shape != () or not (is_text(struct.dtype) or struct.dtype == object):
            raise StageError(
                f"field {self.field!r} is {described(struct)}; tokens are made of one text, or one bytes, a record",
                ("field",),
            )
        self._require_tokens(is_utf8=struct.dtype.kind in "UT")
        return put(spec, self.field, self.to, jax.ShapeDtypeStruct((None,), np.dtype(self.dtype)))

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the tokens."""
        return put(batch, self.field, self.to, self._tokens(leaf_of(batch, self.field)))

    def texts(self, tokens: Any) -> np.ndarray:
        """Return the text of a column of tokens, objects (k,), without special ones and padding: the inverse, to look at.

        Bytes that are no UTF-8, such as a character that was cut, become U+FFFD.
        """
        return objects([self._text(tokens[row]) for row in range(len(tokens))])

    def _text(self, tokens: np.ndarray) -> str:
        values = np.asarray(tokens, np.int64)
        special = [token for token in (self.bos, self.eos) if token is not None]
        values = values[~np.isin(values, special)] - self.offset
        return values[(values >= 0) & (values < _BYTES)].astype(np.uint8).tobytes().decode(errors="replace")

    def _tokens(self, column: np.ndarray) -> Ragged:
        records = list(_encoded(column.tolist(), self.field))
        before, after = self.bos is not None, self.eos is not None
        special = before + after
        if self.length is not None:
            most = self.length - special
            records = [record[:most] for record in records]
        lengths = np.fromiter(map(len, records), np.int64, len(records)) + special
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        gap = b"\0" * special
        joined = b"\0" * before + gap.join(records) + b"\0" * after if records else b""
        values = np.frombuffer(joined, np.uint8).astype(self.dtype)
        if self.offset:
            values += values.dtype.type(self.offset)
        if self.bos is not None:
            values[offsets[:-1]] = self.bos
        if self.eos is not None:
            values[offsets[1:] - 1] = self.eos
        return Ragged(values, offsets)

    def _require_tokens(self, *, is_utf8: bool) -> None:
        greatest = int(np.iinfo(self.dtype).max)
        if self.offset + _BYTES - 1 > greatest:
            raise StageError(
                f"the byte 255 becomes the token {self.offset + _BYTES - 1}, which {self.dtype} does not hold; choose another "
                "dtype or offset",
                ("offset",),
            )
        for option in ("bos", "eos"):
            token = getattr(self, option)
            if token is None:
                continue
            if token > greatest:
                raise StageError(
                    f"{self.dtype} does not hold the token {token}; choose another dtype or token", (option,)
                )
            byte = token - self.offset
            if 0 <= byte < _BYTES and not (is_utf8 and byte in _NEVER_IN_UTF8):
                free = f"from {self.offset + _BYTES} on" + (f", or below {self.offset}" if self.offset else "")
                raise StageError(
                    f"{token} is also the token of the byte {byte}; choose one {free}"
                    + (f"; or of a byte that UTF-8 never has, such as {self.offset + 255}" if is_utf8 else ""),
                    (option,),
                )
        special = (self.bos is not None) + (self.eos is not None)
        if self.length is not None and self.length <= special:
            raise StageError(
                f"a record of {self.length} tokens has no room for a byte beside {special} special tokens; choose a "
                "greater length",
                ("length",),
            )


def _encoded(values: Sequence[Any], field: str) -> Sequence[bytes]:
    """Return texts as UTF-8, and bytes as they are."""
    if values and isinstance(values[0], bytes):
        if odd := [value for value in values if not isinstance(value, bytes)]:
            raise _no_text(field, odd[0], "bytes")
        return values
    try:
        return list(map(str.encode, values))
    except TypeError:
        raise _no_text(field, next(value for value in values if not isinstance(value, str)), "text") from None
    except UnicodeEncodeError as cause:
        raise StageError(f"field {field!r} holds text that UTF-8 does not have: {cause}", ("field",)) from cause


def _no_text(field: str, value: Any, expected: str) -> StageError:
    return StageError(
        f"field {field!r} holds {value!r:.40}, a {type(value).__name__}, where {expected} is expected", ("field",)
    )
