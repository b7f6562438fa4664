"""`write`: records to ArrayRecord files, with the sidecar file that names their decoder."""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from datarax_arrayrecord.config import ArrayRecordSourceConfig
from datarax_arrayrecord.decoders import RECORD_FIELD
from datarax_arrayrecord.length_note import NotedLengths
from datarax_arrayrecord.sidecar import sidecar_content
from datarax_core.order import as_integer
from datarax_core.records import Batch, Ragged, fits_device, named_fields, spec_of
from datarax_core.registry import AnyDecoder, Decoder, default_decoders
from datarax_core.sources import Written

from .batches import blocks_of
from .read_back import Ends, read_back
from .shards import shard_bounds, spooled, write_shards
from .staging import Target, staged

DEFAULT_COMPRESSION: Final = "zstd"
_COMPRESSIONS: Final = re.compile(r"uncompressed|snappy|(zstd|brotli)(:-?\d+)?")
_ANY_DECODER: Final[TypeAdapter[Decoder]] = TypeAdapter(AnyDecoder)

Progress = Callable[[int], None]


def write(
    path: str | os.PathLike[str],
    data: Any,
    decoder: str | Mapping[str, Any] | Decoder | None = None,
    *,
    shards: int = 1,
    compression: str = DEFAULT_COMPRESSION,
    group_size: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write records to ArrayRecord files that an ArrayRecord source reads back without further options.

    One shard is the file ``path``; several are ``path-00000-of-00008`` and so on, each with a contiguous range of the records,
    so that a record keeps its index. The sidecar file ``path.json`` names the decoder, and ``path.lengths.npz`` notes the
    lengths of ragged fields, by which views pack and cut without a pass over the records. The files appear when all of them
    are written; if anything fails, nothing changes. Some megabytes of records are in memory at a time.

    The first and the last record are read back: if a field then has another dtype, and equal values, a warning says so; any
    other difference is an error.

    Args:
        path: Path that ends with ``.array_record``. Missing folders are made.
        data: A source, whose records are written in the order of their index (of a stream, one epoch is written); a dict of
            arrays, or ragged columns, with a row for each record; or an iterable of such dicts, such as a `Pipeline`.
        decoder: Format of the records: the name of a decoder, which is fitted to the fields, or a decoder with its settings.
            None chooses ``array`` if all fields are numbers or bools, and one at most varies in length, ``raw`` for the bytes
            that a source without a decoder serves, else ``msgpack``.
        shards: Number of files.
        compression: ``zstd``, ``zstd:9``, ``brotli``, ``brotli:4``, ``snappy`` or ``uncompressed``.
        group_size: Number of records that are compressed together: larger groups are smaller in the file, but reading one
            record reads its whole group.
        overwrite: Whether to replace a data set of that name, in any number of shards.
        progress: Called with the number of records written so far, after every block of some megabytes.

    Raises:
        FileExistsError: A data set of that name exists, and ``overwrite`` is False.
        TypeError, ValueError: An argument is invalid, there are no records, their element specs differ, or the decoder cannot
            encode them, or does not give them back as they were; says which.
        OSError: Files cannot be written; names the file or folder.
    """
    written = write_data_set(
        path,
        data,
        decoder,
        shards=shards,
        compression=compression,
        group_size=group_size,
        overwrite=overwrite,
        progress=progress,
    )
    if written.changes:
        warnings.warn(f"{path}: read back, {'; '.join(written.changes)}, with equal values", stacklevel=2)
    return written


def write_data_set(
    path: str | os.PathLike[str],
    data: Any,
    decoder: str | Mapping[str, Any] | Decoder | None,
    *,
    shards: int,
    compression: str,
    group_size: int,
    overwrite: bool,
    progress: Progress | None,
) -> Written:
    """Write records as `write` does; changes of dtype are in the result only."""
    shards, options = _positive("shards", shards), _writer_options(compression, group_size)
    target, blocks = Target.of(path, shards), blocks_of(data)
    with staged(target, overwrite=overwrite) as staging:
        first = next(blocks.batches, None)
        if first is None:
            raise ValueError(f"{blocks.title} has no records: there is nothing to write to {target.path}")
        chosen = _decoder_for(decoder, first)
        records: Iterator[list[bytes]]
        ends, lengths = Ends(), NotedLengths()
        passing = lengths.of(ends.of(chain([first], blocks.batches)))
        count, records = blocks.length, (chosen.encode(batch) for batch in passing)
        if count is None and shards > 1:
            count, records = spooled(records, staging / "spool")
        files = [str(staging / Path(file).name) for file in target.files]
        bounds = shard_bounds(count, shards, blocks.title)
        written = write_shards(files, bounds, records, options, progress)
        spec, changes = read_back(files, chosen, ends)
        content = sidecar_content(chosen, spec, num_records=written, shards=shards)
        (staging / Path(target.sidecar).name).write_text(f"{json.dumps(content, indent=2)}\n", encoding="utf-8")
        first_records = [0, *(bound or 0 for bound in bounds[:-1]), written]
        lengths.save(staging / Path(target.note).name, chosen, files, np.diff(first_records).tolist())
        nbytes = sum(Path(file).stat().st_size for file in files)
    paths = target.path if shards == 1 else f"{target.path}@{shards}"
    return Written(ArrayRecordSourceConfig(paths=(paths,)), target.files, written, nbytes, changes)


def _decoder_for(requested: Any, batch: Batch) -> Decoder:
    """Return the requested decoder; one without settings is fitted to the fields of a batch."""
    requested = _decoder_name_for(batch) if requested is None else requested
    if isinstance(requested, Mapping) and set(requested) == {"type"}:
        requested = requested["type"]
    try:
        if isinstance(requested, str):
            return default_decoders().get(requested).for_spec(spec_of(batch))
        return _ANY_DECODER.validate_python(requested)
    except ValidationError as error:
        name = requested["type"] if isinstance(requested, Mapping) and "type" in requested else requested
        wrong = error.errors()[0]
        place = "".join(f"{step}." for step in wrong["loc"])[:-1]
        reason = wrong["msg"].removeprefix("Value error, ")
        raise ValueError(f"the decoder {name!r} cannot write this: {place and f'{place}: '}{reason}") from error


def _decoder_name_for(batch: Batch) -> str:
    """Return the name of the decoder for records whose first ones are in this batch."""
    columns = named_fields(batch)
    ragged = [name for name, column in columns.items() if isinstance(column, Ragged)]
    takes_the_rest = len(ragged) < 2 and all(name in batch and all(batch[name].shape[2:]) for name in ragged)
    if takes_the_rest and all(fits_device(column.dtype) for column in columns.values()):
        return "array"
    is_undecoded = set(columns) == {RECORD_FIELD} and all(isinstance(record, bytes) for record in columns[RECORD_FIELD])
    return "raw" if is_undecoded else "msgpack"


def _writer_options(compression: Any, group_size: Any) -> str:
    if not isinstance(compression, str) or not _COMPRESSIONS.fullmatch(compression):
        raise ValueError(
            f"compression is 'zstd', 'zstd:9', 'brotli', 'brotli:4', 'snappy' or 'uncompressed', not {compression!r:.80}"
        )
    return f"group_size:{_positive('group_size', group_size)},{compression}"


def _positive(name: str, value: Any) -> int:
    number = as_integer(name, value)
    if number < 1:
        raise ValueError(f"{name} is 1 or more, not {number}")
    return number
