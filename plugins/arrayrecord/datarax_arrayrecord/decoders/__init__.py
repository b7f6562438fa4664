"""Decoders of ArrayRecord files: from the bytes of records to arrays, and back."""

from ._array import ArrayDecoder
from ._example import ExampleDecoder
from ._msgpack import MsgpackDecoder
from ._npz import NpzDecoder
from ._raw import RawDecoder

__all__ = ["ArrayDecoder", "ExampleDecoder", "MsgpackDecoder", "NpzDecoder", "RawDecoder"]
