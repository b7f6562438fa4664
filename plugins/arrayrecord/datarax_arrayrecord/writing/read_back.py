"""Written files read back before they get their names: the first and the last record of each, decoded."""

from collections.abc import Iterator, Sequence

from array_record.python.array_record_module import ArrayRecordReader

from datarax_core.errors import RecordError, SpecError
from datarax_core.record_files import changes_of, first_and_last
from datarax_core.records import Batch, ElementSpec, spec_of, varying_spec
from datarax_core.registry import Decoder


class Ends:
    """The first and the last record of blocks that pass."""

    def __init__(self) -> None:
        self._kept: list[Batch] = []

    def of(self, blocks: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the blocks, and keep the first and the last one."""
        for block in blocks:
            self._kept = [*self._kept[:1], block]
            yield block

    def records(self) -> Batch:
        """Return the first record and the last one as a batch of two; only after all blocks were read."""
        return first_and_last(self._kept)


def read_back(files: Sequence[str], decoder: Decoder, ends: Ends) -> tuple[ElementSpec, tuple[str, ...]]:
    """Return the element spec of written files, and how two records that are read back differ in dtype from those given.

    Args:
        files: Written files, each of which has records.
        decoder: Decoder that wrote the records.
        ends: Records as they were given.

    Raises:
        SpecError: A record cannot be decoded, or differs from what was given in more than its dtypes.
    """
    stored = [record for file in files for record in _ends_of(file)]
    title = f"the decoder {decoder.type!r}"
    try:
        spec = varying_spec(decoder.spec_from(stored[0]), spec_of(ends.records()))  # the first may be like the others
        read = decoder.decode(stored, spec)
    except RecordError as error:
        raise SpecError(f"{title} cannot decode what it wrote: {error.reason}; choose another one") from error
    return spec, changes_of(ends.records(), first_and_last([read, read]), title)


def _ends_of(file: str) -> list[bytes]:
    """Return the first and the last record of a file."""
    reader = ArrayRecordReader(file)
    try:
        records: list[bytes] = reader.read([0, reader.num_records() - 1])
        return records
    finally:
        reader.close()
