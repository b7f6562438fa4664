"""Decoders of records: from the bytes of many records to arrays of a batch, and back.

A decoder module defines one format and the fields that its config declares; the formats share `fields` and `dtypes`.
Imports `records`, `registry` and `config` of core, and nothing of the plugin.
"""

from .array import ArrayDecoder
from .declared import DOTTED
from .example import ExampleDecoder
from .msgpack import MsgpackDecoder
from .npz import NpzDecoder
from .raw import RECORD_FIELD, RawDecoder

__all__ = ["DOTTED", "RECORD_FIELD", "ArrayDecoder", "ExampleDecoder", "MsgpackDecoder", "NpzDecoder", "RawDecoder"]
