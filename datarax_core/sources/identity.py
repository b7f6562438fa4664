"""Identity of data: digests of configs, files and records, by which a saved state recognises the data that it belongs to.

They are samples: their cost is bounded.
"""

import functools
import hashlib
import json
import os
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from glob import iglob
from itertools import islice
from typing import Any, Final, get_args

import jax
import numpy as np

from datarax_core.config.addresses import scheme_of
from datarax_core.config.base import FrozenConfig, LocalPath, LocalPattern
from datarax_core.config.models import StructuralConfig
from datarax_core.records.digests import class_name, digest_of
from datarax_core.storage.range_reader import RangeReader
from datarax_core.storage.stores.stamps import Stamp

SAMPLED_RECORDS: Final = 16
"""Records, spread over a source, that are part of its identity."""

_SAMPLED_FILES: Final = 64
_LISTED_FILES: Final = 10_000
_PIECES, _PIECE_BYTES = 16, 4096  # of a file: all of it up to 64 KiB
_KEPT_DIGESTS: Final = 4096
_digests_of_objects: Final[OrderedDict[tuple[str, Stamp], bytes]] = OrderedDict()
"""Digests of the contents of objects, by address and stamp; those made first go first."""

_LONG: Final = 60  # characters of a value that a fingerprint shows as it is


def sampled_rows(length: int) -> np.ndarray:
    """Return int64 (k,): up to `SAMPLED_RECORDS` record indices, spread over ``length`` records."""
    return np.unique(np.linspace(0, length - 1, min(length, SAMPLED_RECORDS)).astype(np.int64))


# -- configs -------------------------------------------------------------------------------------------------------------


def config_entries(config: FrozenConfig) -> dict[str, Any]:
    """Return the values of a config that may change the stream, as short JSON: fields that differ from their defaults.

    Left out are paths, whose content `content_of` tells, and fields that change no records: those of every module, and those
    that the class lists in ``may_differ``.
    """
    left_out = {*StructuralConfig.model_fields, "type", "shuffle", *_may_differ(type(config))}
    entries = {}
    for name, value in _set_fields(config):
        if name not in left_out and not _holds_paths(type(config).model_fields[name].rebuild_annotation()):
            entries[name] = _short(value)
    return entries


def config_paths(config: FrozenConfig) -> list[str]:
    """Return the values of fields that hold a ``LocalPath`` or ``LocalPattern``, of a config and the configs in it.

    Those in ``may_differ`` are left out.
    """
    left_out = _may_differ(type(config))
    paths: list[str] = []
    for name, value in _set_fields(config):
        if name not in left_out:
            is_path = _holds_paths(type(config).model_fields[name].rebuild_annotation())
            paths += (
                _texts(value) if is_path else [path for inner in _configs_in(value) for path in config_paths(inner)]
            )
    return paths


def _may_differ(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name in vars(base).get("may_differ", ())}


def _set_fields(config: FrozenConfig) -> Iterator[tuple[str, Any]]:
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        default = field.get_default() if _needs_data(field) else field.get_default(call_default_factory=True)
        if digest_of(value) != digest_of(default):
            yield name, value


def _needs_data(field: Any) -> bool:
    return bool(getattr(field, "default_factory_takes_validated_data", False))


def _holds_paths(annotation: Any) -> bool:
    """Return whether an annotation contains ``LocalPath`` or ``LocalPattern``, on its own or inside a union or a collection."""
    if _is_path(annotation):
        return True
    return any(_holds_paths(part) for part in get_args(annotation) if not isinstance(part, str | int))


def _is_path(annotation: Any) -> bool:
    validators = {id(part) for part in getattr(annotation, "__metadata__", ())}
    return any(validators >= {id(part) for part in kind.__metadata__} for kind in (LocalPath, LocalPattern))  # type: ignore[attr-defined]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for item in value.values() for text in _texts(item))
    elif isinstance(value, Sequence | AbstractSet):
        yield from (text for item in value for text in _texts(item))


def _configs_in(value: Any) -> Iterator[FrozenConfig]:
    if isinstance(value, FrozenConfig):
        yield value
    elif isinstance(value, Mapping):
        yield from (config for item in value.values() for config in _configs_in(item))
    elif isinstance(value, list | tuple):
        yield from (config for item in value for config in _configs_in(item))


def _short(value: Any) -> Any:
    """Return a value as JSON if it is short and plain, else its digest; of configs in it, what `config_entries` returns."""
    if isinstance(value, FrozenConfig):
        return {"class": class_name(type(value)), **config_entries(value)}
    if any(True for _ in _configs_in(value)):
        return {n: _short(v) for n, v in value.items()} if isinstance(value, Mapping) else [_short(v) for v in value]
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        return digest_of(value)
    return json.loads(text) if len(text) <= _LONG else digest_of(value)


# -- files ---------------------------------------------------------------------------------------------------------------


def content_of(paths: Iterable[str]) -> str | None:
    """Return `content_of_files` for paths: a folder stands for the files in it, at any depth, without hidden ones.

    A path that does not exist stands for the files that it matches as a pattern.
    """
    try:
        return content_of_files(list(files_of(paths)))
    except OSError:
        return None


def files_of(paths: Iterable[str]) -> Iterator[str]:
    """Yield the files that paths stand for, as `content_of` reads them; ten thousand at most."""
    return islice((file for path in paths for file in _files_of(path)), _LISTED_FILES)


def content_of_files(
    files: Sequence[str], reader: RangeReader | None = None, stamps: Sequence[Stamp | None] = ()
) -> str | None:
    """Return a digest of the sizes of files and of samples of what is in them; None if one of them cannot be read here.

    Neither names nor folders count, so that files may be moved, to addresses, too. At most 64 files are sampled, spread over
    all of them, each at 16 places; that costs about 0.1 ms a file, and a microsecond for a file that was sampled before and has
    not changed. Samples of files at addresses are fetched all at once, the first time.

    Args:
        files: The files.
        reader: Reads those at addresses; without one, they cannot be read.
        stamps: Stamp of each file, if there is a reader.
    """
    digest = hashlib.blake2b(digest_size=8)
    numbers = np.unique(np.linspace(0, len(files) - 1, min(len(files), _SAMPLED_FILES)).astype(int)).tolist()
    known = {
        number: stamps[number] for number in numbers if reader is not None and scheme_of(files[number]) is not None
    }
    try:
        of_objects = _object_digests(reader, {files[number]: stamp for number, stamp in known.items() if stamp})
        for number in numbers:
            if number in known:
                digest.update(of_objects[files[number]])
                continue
            now = os.stat(files[number])  # noqa: PTH116 - a fifth of the time of Path.stat
            digest.update(_file_digest(files[number], now.st_size, now.st_mtime_ns, now.st_ino))
    except OSError:
        return None
    return f"{len(files)} {digest.hexdigest()}" if files else None


def _object_digests(reader: RangeReader | None, stamps: Mapping[str, Stamp]) -> dict[str, bytes]:
    """Return the digest of each object, given its stamp, as that of the same file on this machine would be."""
    missing = {address: stamp for address, stamp in stamps.items() if (address, stamp) not in _digests_of_objects}
    if missing and reader is not None:
        places = [
            (address, start, end) for address, stamp in missing.items() for start, end in _sampled_places(stamp.size)
        ]
        parts = reader.ranges(
            [address for address, _, _ in places],
            [start for _, start, _ in places],
            [end for _, _, end in places],
            [missing[address] for address, _, _ in places],
        )
        digests = {a: hashlib.blake2b(str(stamp.size).encode(), digest_size=8) for a, stamp in missing.items()}
        for (address, _, _), part in zip(places, parts, strict=True):
            digests[address].update(part)
        for address, stamp in missing.items():
            _digests_of_objects[address, stamp] = digests[address].digest()
    found = {address: _digests_of_objects[address, stamp] for address, stamp in stamps.items()}
    while len(_digests_of_objects) > _KEPT_DIGESTS:
        _digests_of_objects.popitem(last=False)
    return found


def _sampled_places(size: int) -> list[tuple[int, int]]:
    """Return (start, end) of the places of a file of so many bytes whose content is sampled."""
    if size <= _PIECES * _PIECE_BYTES:
        return [(0, size)]
    last = size - _PIECE_BYTES
    starts = [last * piece // (_PIECES - 1) for piece in range(_PIECES)]
    return [(start, start + _PIECE_BYTES) for start in starts]


def _files_of(path: str) -> Iterator[str]:
    if os.path.isdir(path):  # noqa: PTH112 - many files
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (os.path.join(folder, name) for name in sorted(names) if not name.startswith("."))  # noqa: PTH118
    elif os.path.exists(path):  # noqa: PTH110
        yield path
    else:
        yield from sorted(islice(filter(os.path.isfile, iglob(path)), _LISTED_FILES))  # noqa: PTH207


@functools.lru_cache(maxsize=4096)
def _file_digest(path: str, size: int, changed_ns: int, inode: int) -> bytes:  # noqa: ARG001 - a changed file is read anew
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        for start, end in _sampled_places(size):
            file.seek(start)
            digest.update(file.read(end - start))
    return digest.digest()


# -- records -------------------------------------------------------------------------------------------------------------


def sample_of(read: Callable[[np.ndarray], Any], length: int) -> str | None:
    """Return a digest of up to sixteen records; None if they cannot be read, or differ each time that they are read.

    Records are read twice: fields that the second reading gives otherwise, augmented at random for example, do not count.

    Args:
        read: Returns the records at int64 (k,) indices as a batch.
        length: Number of records.
    """
    rows = sampled_rows(length)
    if not len(rows):
        return None
    times = 2 if len(rows) >= SAMPLED_RECORDS else 2 + SAMPLED_RECORDS // len(rows)
    try:
        with _random_states_kept(), jax.ensure_compile_time_eval():
            readings = [_field_digests(read(rows)) for _ in range(times)]
    except Exception:  # noqa: BLE001 - a state is saved all the same; serving the record raises what is wrong with it
        return None
    first = readings[0]
    lasting = {name: digest for name, digest in first.items() if all(other.get(name) == digest for other in readings)}
    return digest_of(lasting) if lasting else None


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Keep the states of the random generators that all of the process shares; reading may draw from them."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the shared generator is meant
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


def _field_digests(batch: Any) -> dict[str, str]:
    return {jax.tree_util.keystr(path): digest_of(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(batch)}
