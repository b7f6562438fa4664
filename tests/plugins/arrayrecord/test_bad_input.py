"""Errors of bad files and records, with their messages; the cases that might crash are read in child processes."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from record_files import (
    FINDABLE,
    Numbers,
    Stubborn,
    damage,
    ids,
    in_child,
    record,
    source_of,
    write,
    write_numbers,
)

from datarax_arrayrecord import ArrayRecordSourceConfig
from datarax_core import ConfigError, DataFileError, Pipeline, RecordError, SpecError

COUNT = 6000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the content of a file of nine blocks of 64 KB, compressed."""
    (path,) = write_numbers(tmp_path_factory.mktemp("whole"), [COUNT], "group_size:1")
    return Path(path).read_bytes()


# -- files that cannot be opened ------------------------------------------------------------------------------------------


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.array_record").touch()
    with pytest.raises(
        DataFileError, match=r"a.array_record is empty: 0 bytes; it was never written, or a copy of it was"
    ):
        source_of(tmp_path)


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (1, "ArrayRecord file should be at least 64KB big$"),
        (40, "ArrayRecord file should be at least 64KB big$"),
        ((1 << 16) - 1, "ArrayRecord file should be at least 64KB big$"),
        (1 << 16, "its end is missing$"),
        ((1 << 16) + 1, "Invalid chunk boundary: 1$"),
        (1 << 17, "Invalid Riegeli/records file: chunk boundary is 65536 but"),
        (200_000, "Corrupted Riegeli/records file: chunk header hash mismatch"),
        (-(1 << 16), "Invalid Riegeli/records file: chunk boundary is "),
        (-1000, "Corrupted Riegeli/records file: "),
        (-1, "Invalid Riegeli/records file: "),
    ],
)
def test_a_truncated_file_is_refused(tmp_path: Path, whole: bytes, kept: int, reason: str) -> None:
    path = tmp_path / "a.array_record"
    path.write_bytes(whole[:kept])
    with pytest.raises(
        DataFileError, match=rf"{path} is no ArrayRecord file, or is damaged or truncated: {reason}"
    ) as caught:
        source_of(path)
    assert caught.value.path == str(path)


NOISE = random.Random(0)  # noqa: S311 - no secrets


@pytest.mark.parametrize(
    "content",
    [
        NOISE.randbytes(10),
        NOISE.randbytes(1 << 17),
        NOISE.randbytes(200_003),
        bytes(1 << 17),
        b"\xff" * (1 << 17),
        b"hello " * 40_000,
        b"PK\x03\x04" + bytes(1 << 17),
    ],
    ids=["short", "noise", "odd-noise", "zeros", "ones", "text", "zip"],
)
def test_a_file_of_another_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.array_record"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=rf"{path} is no ArrayRecord file, or is damaged or truncated: \S"):
        source_of(path)


def test_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(DataFileError, match=f"{path} is no ordinary file, but a folder, a pipe or a device"):
            source_of(path)


def test_a_file_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (file,) = write_numbers(tmp_path, [1])
    Path(file).rename(tmp_path / "\udcff.array_record")
    with pytest.raises(DataFileError, match=r"udcff.* is no UTF-8, and array_record opens no other; rename it"):
        source_of(tmp_path)


@pytest.mark.usefixtures("ordinary_user")
def test_a_file_without_read_permission_is_named(shared_folder: Path) -> None:
    (shared_folder / "data").mkdir()
    path = shared_folder / "data" / "a.array_record"
    (shared_folder / "data").chmod(0o777)
    write(path, [record(0)])
    path.chmod(0)
    with pytest.raises(PermissionError, match=rf"permission denied: {path}; make the file readable for this user"):
        source_of(path)
    path.chmod(0o644)
    (shared_folder / "data").chmod(0)
    with pytest.raises(PermissionError, match=str(shared_folder / "data")):
        source_of(shared_folder / "data")
    with pytest.raises(PermissionError, match=str(path)):
        source_of(path)
    (shared_folder / "data").chmod(0o777)


def test_a_bad_file_among_good_ones_leaves_nothing_open(tmp_path: Path) -> None:
    files = write_numbers(tmp_path, [3, 3, 3])
    Path(files[2]).write_bytes(b"x" * 70_000)
    with pytest.raises(DataFileError, match=files[2]):
        source_of(files)
    assert not [each for each in Path("/proc/self/fd").iterdir() if each.exists() and str(each.readlink()) in files]


# -- no records -----------------------------------------------------------------------------------------------------------


EMPTY = r"ArrayRecordSourceModule 'train' is empty: its 2 files hold no records to serve; the first one is \S+"


@pytest.mark.parametrize(
    "read",
    [
        lambda source: source.get_batch_at(0, 2, source.order_key_data()),
        lambda source: source.get_batch(2),
        lambda source: next(iter(source)),
        lambda source: Pipeline(source=source, batch_size=2),
        lambda source: source.get_records([0]),
    ],
    ids=["get_batch_at", "get_batch", "iter", "pipeline", "get_records"],
)
@pytest.mark.parametrize("config", [{}, {"shuffle": True}, {"shuffle_files": True}, {"decoder": None}], ids=str)
def test_reading_files_without_records_is_an_error(
    tmp_path: Path, read: Callable[[Any], Any], config: dict[str, Any]
) -> None:
    source = source_of(write_numbers(tmp_path, [0, 0]), rngs=nnx.Rngs(0), name="train", **config)
    assert len(source) == 0
    with pytest.raises(ValueError, match=EMPTY):
        read(source)


def test_every_method_of_a_source_without_records_says_so(tmp_path: Path) -> None:
    source = source_of(write_numbers(tmp_path, [0, 0]), decoder=Numbers(learns=True), name="train")
    with pytest.raises(ValueError, match=EMPTY):
        source.element_spec()
    with pytest.raises(IndexError, match="record 0 is out of range: ArrayRecordSourceModule 'train' has 0 records"):
        source[0]
    assert (source.current_index, source.current_epoch, source.total_records) == (0, 0, 0)


# -- records --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", [Numbers(), Numbers(learns=True), None], ids=["declared", "learned", "raw"])
@pytest.mark.parametrize("options", ["group_size:1", FINDABLE], ids=["compressed", "uncompressed"])
def test_one_bad_record_in_the_middle_is_named(tmp_path: Path, decoder: Any, options: str) -> None:
    files = write_numbers(tmp_path, [10, 300], FINDABLE)
    damage(files[1], 210)
    if options != FINDABLE:
        files[0] = write(tmp_path / "other.array_record", map(record, range(10)), options)
    source = source_of(files, decoder=decoder, name="train")
    message = rf"record 200 of {files[1]} cannot be read: Corrupted .*hash mismatch.*\(record 210 of .* 'train'\)$"
    for rows in ([210], range(310), range(209, 212), [300, 210, 1], range(10, 310, 2), [210] * 3):
        with pytest.raises(RecordError, match=message) as error:
            source.get_elements(np.asarray(rows)) if decoder is None else source.get_records(rows)
        assert (error.value.record, error.value.path, error.value.row) == (210, files[1], 200)
        assert isinstance(error.value.__cause__, RuntimeError)
        assert "hash mismatch" in error.value.reason
    good = [number for number in range(310) if number != 210]
    if decoder is not None:
        assert ids(source.get_records(good)) == good  # by a new reader, since the one that failed was closed


@pytest.mark.parametrize("before", range(0, 44, 4))
def test_a_flipped_byte_in_the_header_of_a_record_is_found(tmp_path: Path, before: int) -> None:
    path = Path(write(tmp_path / "a.array_record", map(record, range(20))))
    content = bytearray(path.read_bytes())
    content[content.index(record(7)) - 1 - before] ^= 0x40
    path.write_bytes(content)
    source = source_of(path)
    bad = []
    for number in range(20):
        try:
            assert ids(source.get_records([number])) == [number]
        except RecordError:
            bad.append(number)
    assert bad == [7]
    with pytest.raises(RecordError, match=f"record 7 of {path} cannot be read: Corrupted"):
        source.get_records(range(20))


FUZZ = """
    import random, sys, warnings
    from pathlib import Path
    import numpy as np
    from datarax_core import DataFileError, RecordError
    from record_files import record, source_of, write

    warnings.simplefilter("ignore")  # of files written in groups
    rng, folder, count = random.Random(int(sys.argv[2])), Path(sys.argv[1]), 40
    records = [record(number) + rng.randbytes(rng.choice([0, 3, 500])) for number in range(count)]
    outcomes = {"unopened": 0, "whole": 0, "damaged": 0}
    for number in range(150):
        options = rng.choice(["group_size:1", "group_size:1,uncompressed", "group_size:7"])
        path = Path(write(folder / f"{number}.array_record", records, options))
        content = bytearray(path.read_bytes())
        used = [place for place, byte in enumerate(content) if byte]
        for _ in range(rng.choice([1, 1, 1, 2, 20])):
            place, other = rng.choice(used), rng.choice(used)
            damage = rng.randrange(7)
            if damage == 0:
                content[place] ^= 1 << rng.randrange(8)
            elif damage == 1:
                content[place] = rng.randrange(256)
            elif damage == 2:
                content[place : place + 64] = bytes(64)
            elif damage == 3:
                del content[place : place + rng.randrange(1, 100)]
            elif damage == 4:
                content[place:place] = rng.randbytes(8)
            elif damage == 5:
                content[place : place + 32], content[other : other + 32] = (
                    content[other : other + 32], content[place : place + 32]
                )
            else:
                del content[place:]
            used = [place for place in used if place + 100 < len(content)]
            if not used:
                break
        path.write_bytes(content)
        try:
            source = source_of(path, decoder=None)
            assert len(source) == count, len(source)
        except DataFileError:
            outcomes["unopened"] += 1
            continue
        for rows in (range(count), [5, 3, 3], range(0, count, 3), *([row] for row in range(count))):
            try:
                got = source.get_elements(np.asarray(rows))
            except (DataFileError, RecordError):
                outcomes["damaged"] += 1
                continue
            assert got == [records[row] for row in rows]
            outcomes["whole"] += 1
    assert min(outcomes.values()) > 10, outcomes
"""


@pytest.mark.parametrize("seed", ["0", "1"])
def test_a_damaged_file_gives_the_original_records_or_an_error(tmp_path: Path, seed: str) -> None:
    in_child(FUZZ, str(tmp_path), seed)


WRONG: list[tuple[Any, list[bytes], str]] = [
    (Numbers(), [record(0), b"short"], "cannot be decoded as 'numbers': a record has 16 bytes, not 5"),
    (Numbers(), [record(0), record(1) + b"x"], "cannot be decoded as 'numbers': a record has 16 bytes, not 17"),
    (Numbers(), [record(0), b""], "cannot be decoded as 'numbers': a record has 16 bytes, not 0"),
    (
        Stubborn(refuses=(9,)),
        [record(8), record(9)],
        "cannot be decoded as 'stubborn': LookupError: nothing is known of 9",
    ),
]


@pytest.mark.parametrize(("decoder", "records", "message"), WRONG, ids=["short", "long", "empty", "refused"])
def test_a_record_that_does_not_fit_its_decoder_is_named(
    tmp_path: Path, decoder: Any, records: list[bytes], message: str
) -> None:
    files = [*write_numbers(tmp_path, [5]), write(tmp_path / "wrong.array_record", records)]
    with pytest.raises(
        RecordError, match=rf"^record 1 of {files[1]} {message} \(record 6 of ArrayRecordSourceModule\)$"
    ):
        source_of(files, decoder=decoder).get_records(range(7))


def test_a_wrong_decoder_fails_at_the_first_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.array_record", [b"text of another kind"] * 3)
    with pytest.raises(RecordError, match=f"record 0 of {path} cannot be decoded as 'numbers': a record has 16 bytes"):
        source_of(path, decoder=Numbers(learns=True)).element_spec()
    with pytest.raises(RecordError, match=f"record 0 of {path} cannot be decoded as 'numbers': a record has 16 bytes"):
        source_of(path).get_batch_at(0, 2)


class Miscounting(Numbers):
    """Decoder that drops a row of every batch."""

    def decode(self, records: Any, spec: Any) -> Any:
        return super().decode(records[:-1] or records, spec)


def test_a_decoder_that_returns_too_few_rows_is_an_error(tmp_path: Path) -> None:
    source = source_of(write_numbers(tmp_path, [5]), decoder=Miscounting())
    with pytest.raises(SpecError, match="5"):
        source.get_batch_at(0, 5)


def test_bytes_cannot_be_traced(tmp_path: Path) -> None:
    source = source_of(write_numbers(tmp_path, [5]), decoder=None, name="train")
    reason = "its records are bytes, which compiled code cannot hold; give it a decoder"
    message = f"ArrayRecordSourceModule 'train' has no decoder: {reason}"
    with pytest.raises(TypeError, match=message):
        jax.jit(lambda start: source.get_batch_at(start, 2))(0)
    shuffled = source.copy(config=ArrayRecordSourceConfig(shuffle=True), rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=message):
        jax.jit(lambda key: shuffled.get_batch_at(0, 2, key))(jax.random.key(0))
    with pytest.raises(SpecError, match="'train' has fields that compiled code cannot carry: record; leave them out"):
        Pipeline(source=source, batch_size=2).scan(lambda batch: batch, length=1)
    with pytest.raises(ValueError, match="is shuffled: pass the key that selects the order"):
        shuffled.get_batch_at(0, 2)


@pytest.mark.parametrize("group", [1, 10])
def test_a_record_larger_than_the_memory_is_an_error_not_a_crash(tmp_path: Path, group: int) -> None:
    said = in_child(
        """
        import resource, sys, warnings
        from pathlib import Path
        import numpy as np
        from datarax_core import RecordError
        from record_files import ids, record, source_of, write

        warnings.simplefilter("ignore")
        folder, group = Path(sys.argv[1]), sys.argv[2]
        small = source_of(write(folder / "small", map(record, range(300)), "group_size:1"))
        small.get_records(np.arange(300))  # array_record starts its threads here
        zeros = bytes(700 << 20)
        path = write(folder / "a", [zeros if number == 77 else record(number) for number in range(400)], f"group_size:{group}")
        del zeros
        assert Path(path).stat().st_size < 1 << 18
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), -1))
        source = source_of(path)
        several = [[3, 77], np.arange(400), np.arange(1, 400, 2)] if group == "1" else []
        for rows in ([77], np.arange(70, 90), *several):
            try:
                source.get_records(rows)
            except RecordError as error:
                print(error)
        assert ids(source.get_records(np.arange(100, 300))) == list(range(100, 300))
        if group == "1":
            replaced = source_of(path, on_error="substitute")  # for lack of memory, which may pass, nothing is substituted
            try:
                replaced.get_records(np.arange(60, 100))
            except RecordError as error:
                print(error)
        """,
        str(tmp_path),
        str(group),
    )
    errors = said.splitlines()
    assert len(errors) == (6 if group == 1 else 2)
    for error in errors:
        assert f"of {tmp_path}/a cannot be read: the record is larger than the memory that is left (record 7" in error


@pytest.mark.parametrize("content", ["[" * 5000, "{", "\udcff"])
def test_a_damaged_sidecar_file_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    path = write_numbers(tmp_path, [3])[0]
    Path(f"{path}.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(
        ConfigError, match=rf"{path}\.json cannot be read: .*; name the decoder in the config, or remove"
    ):
        source_of(path, decoder=None)
