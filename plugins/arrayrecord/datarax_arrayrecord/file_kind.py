"""The kind of files that this package reads: ArrayRecord files, by their suffixes."""

from typing import Final

from datarax_core.files import FileKind

ARRAY_RECORD: Final = FileKind("ArrayRecord", (".array_record", ".arrayrecord", ".arecord"), frozenset({"gs"}))
SUFFIXES: Final = ARRAY_RECORD.suffixes
