"""Writing ArrayRecord files, and beside them the note that says how to read them."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from datarax_arrayrecord.config import ArrayRecordSourceConfig
from datarax_arrayrecord.decoders import RECORD_FIELD
from datarax_arrayrecord.sidecar import sidecar_of
from datarax_core.order import as_integer
from datarax_core.records import Batch, fits_device, named_fields, spec_of
from datarax_core.registry import AnyDecoder, Decoder, default_decoders
from datarax_core.sources import Written

from .batches import blocks_of
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
    """Write records to ArrayRecord files, such that an ArrayRecord source reads them back without further options.

    With one shard the file is ``path``; with more they are ``path-00000-of-00008`` and so on, each a contiguous range of the
    records, so that a record keeps its index. Beside them ``path.json`` notes the decoder. They appear when all of it is
    written, and if anything fails, nothing is changed. Some megabytes of records are held at a time.

    Args:
        path: Ends with ``.array_record``. Folders that are missing are made.
        data: A source, whose records are written in the order of their index (of a stream, one epoch of it); a dict of
            arrays with a row for each record; or an iterable of such dicts, a `Pipeline` among them.
        decoder: The format of the records: the name of a decoder, which takes the fields as they come, or a decoder with
            its settings. None takes ``array`` if all fields are numbers or bools, ``raw`` for the bytes that a source
            without a decoder serves, else ``msgpack``.
        shards: Files to write.
        compression: ``zstd``, ``zstd:9``, ``brotli``, ``brotli:4``, ``snappy`` or ``uncompressed``.
        group_size: Records that are compressed together: more compress better, but to read one of them all are read.
        overwrite: Replace a data set of that name, in however many shards it is.
        progress: Called with the number of records written so far, every now and then.

    Raises:
        FileExistsError: A data set of that name is there, and ``overwrite`` is not said.
        TypeError, ValueError: An argument cannot work, there are no records, they differ, or the decoder cannot hold
            them; says which.
        OSError: Files cannot be written; names the place.
    """
    shards, options = _at_least_one("shards", shards), _writer_options(compression, group_size)
    target, blocks = Target.of(path, shards), blocks_of(data)
    with staged(target, overwrite=overwrite) as staging:
        first = next(blocks.batches, None)
        if first is None:
            raise ValueError(f"{blocks.title} has no records: there is nothing to write to {target.path}")
        chosen = _decoder_for(decoder, first)
        records: Iterator[list[bytes]]
        count, records = blocks.length, map(chosen.encode, chain([first], blocks.batches))
        if count is None and shards > 1:
            count, records = spooled(records, staging / "spool")
        files = [str(staging / Path(file).name) for file in target.files]
        bounds = shard_bounds(count, shards, f"{blocks.title} has")
        written, head = write_shards(files, bounds, records, options, progress)
        note = sidecar_of(chosen, chosen.element_spec() or chosen.spec_from(head), num_records=written, shards=shards)
        (staging / Path(target.sidecar).name).write_text(f"{json.dumps(note, indent=2)}\n", encoding="utf-8")
        nbytes = sum(Path(file).stat().st_size for file in files)
    paths = target.path if shards == 1 else f"{target.path}@{shards}"
    return Written(ArrayRecordSourceConfig(paths=(paths,)), target.files, written, nbytes)


def _decoder_for(asked: Any, batch: Batch) -> Decoder:
    """The decoder that was asked for, fitted to the fields of a batch if it came without settings."""
    asked = _fitting(batch) if asked is None else asked
    if isinstance(asked, Mapping) and set(asked) == {"type"}:
        asked = asked["type"]
    try:
        if isinstance(asked, str):
            return default_decoders().get(asked).for_spec(spec_of(batch))
        return _ANY_DECODER.validate_python(asked)
    except ValidationError as error:
        name = asked["type"] if isinstance(asked, Mapping) and "type" in asked else asked
        wrong = error.errors()[0]
        place = "".join(f"{step}." for step in wrong["loc"])[:-1]
        reason = wrong["msg"].removeprefix("Value error, ")
        raise ValueError(f"the decoder {name!r} cannot write this: {place and f'{place}: '}{reason}") from error


def _fitting(batch: Batch) -> str:
    """The name of the decoder for records of which these are the first."""
    columns = named_fields(batch)
    if all(fits_device(column.dtype) for column in columns.values()):
        return "array"
    is_undecoded = set(columns) == {RECORD_FIELD} and all(isinstance(record, bytes) for record in columns[RECORD_FIELD])
    return "raw" if is_undecoded else "msgpack"


def _writer_options(compression: Any, group_size: Any) -> str:
    if not isinstance(compression, str) or not _COMPRESSIONS.fullmatch(compression):
        raise ValueError(
            f"compression is 'zstd', 'zstd:9', 'brotli', 'brotli:4', 'snappy' or 'uncompressed', not {compression!r:.80}"
        )
    return f"group_size:{_at_least_one('group_size', group_size)},{compression}"


def _at_least_one(name: str, value: Any) -> int:
    number = as_integer(name, value)
    if number < 1:
        raise ValueError(f"{name} is 1 or more, not {number}")
    return number
