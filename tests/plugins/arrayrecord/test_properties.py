"""Properties for any files, exclusions and indices: records equal those of plain Python; the order of shuffled files."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from record_files import ids, record, source_of, write, write_numbers

from datarax_arrayrecord.reading import FileOrder
from datarax_core.order.order import Order

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=7).filter(any)
KEY = np.asarray([3, 5], np.uint32)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), counts=COUNTS, limit=st.integers(1, 3), options=st.sampled_from(["group_size:1", "uncompressed"])
)
def test_records_are_those_that_plain_python_selects(
    data: st.DataObject, counts: list[int], limit: int, options: str
) -> None:
    total = sum(counts)
    with tempfile.TemporaryDirectory() as folder:
        options = options if options == "group_size:1" else "group_size:1,uncompressed"
        files = write_numbers(Path(folder), counts, options)
        starts = np.cumsum([0, *counts])
        excluded = data.draw(st.sets(st.integers(0, total - 1), max_size=total - 1))
        lines = []
        for number in sorted(excluded, reverse=True):
            file = int(np.searchsorted(starts, number, side="right")) - 1
            lines.append(f'{{"file": "{files[file]}", "record": {number - starts[file]}}}\n')
        (Path(folder) / "bad").write_text("".join(lines))
        source = source_of(files, exclude=Path(folder) / "bad", max_open_files=limit)
        served = [number for number in range(total) if number not in excluded]
        assert len(source) == len(served)
        raw = source_of(files, exclude=Path(folder) / "bad", decoder=None)
        for _ in range(4):
            if data.draw(st.booleans()):
                rows = data.draw(st.lists(st.integers(0, len(served) - 1), min_size=1, max_size=60))
            else:  # consecutive records are read by another call
                first = data.draw(st.integers(0, len(served) - 1))
                rows = list(range(first, min(len(served), first + data.draw(st.integers(1, 60)))))
            assert ids(source.get_records(rows)) == [served[row] for row in rows]
            assert raw.get_elements(np.asarray(rows)) == [record(served[row]) for row in rows]
        start, size = data.draw(st.integers(0, 3 * total)), data.draw(st.integers(1, 2 * total))
        expected = [served[position % len(served)] for position in range(start, start + size)]
        assert ids(source.get_batch_at(start, size)) == expected
        source.close()
        raw.close()


def epoch_of(counts: list[int], epoch: int, key: Any = KEY) -> list[int]:
    """Return one epoch by its definition: the files that serve records in core's order, each from front to back."""
    starts = np.cumsum([0, *counts])
    filled = [file for file, count in enumerate(counts) if count]
    order = Order(len(filled)).record_indices(epoch * len(filled), len(filled), key)
    return [row for file in order for row in range(starts[filled[file]], starts[filled[file]] + counts[filled[file]])]


@settings(max_examples=150, deadline=None)
@given(counts=COUNTS, start=st.one_of(st.integers(0, 300), st.integers(0, 2**45)), size=st.integers(0, 150))
def test_each_epoch_shuffles_the_files_and_keeps_the_records_of_each_in_sequence(
    counts: list[int], start: int, size: int
) -> None:
    total = sum(counts)
    first, last = start // total, (start + size) // total
    stream = [row for epoch in range(first, last + 1) for row in epoch_of(counts, epoch)]
    got = FileOrder(np.asarray(counts)).record_indices(start, size, KEY)
    assert got.dtype == np.int64
    assert got.tolist() == stream[start - first * total :][:size]
    assert sorted(epoch_of(counts, first)) == list(range(total))


@settings(max_examples=5, deadline=None)
@given(
    counts=COUNTS,
    start=st.one_of(st.integers(0, 300), st.integers(2**31 - 200, 2**31 - 1)),
    size=st.sampled_from([1, 7, 64]),
)
def test_compiled_code_has_the_same_order_to_the_bit(counts: list[int], start: int, size: int) -> None:
    order = FileOrder(np.asarray(counts))
    expected = order.record_indices(start, size, KEY).tolist()
    by_start = jax.jit(lambda start, key: order.record_indices(start, size, key))(np.int32(start), KEY)
    assert by_start.dtype == np.int32
    assert by_start.tolist() == expected
    assert jax.jit(lambda key: order.record_indices(start, size, key))(KEY).tolist() == expected
    assert jax.jit(lambda start: order.record_indices(start, size, KEY))(np.uint32(start)).tolist() == expected


@pytest.mark.parametrize("start", [0, 100, 2**31, 2**40, 2**40 + 12_345, 2**62])
def test_positions_past_32_bits_work_if_only_the_key_is_traced(start: int) -> None:
    order = FileOrder(np.asarray([3, 0, 5, 1]))
    for position in (start, np.int64(start)):
        got = jax.jit(lambda key, position=position: order.record_indices(position, 20, key))(KEY)
        assert got.tolist() == order.record_indices(start, 20, KEY).tolist()


@settings(max_examples=60, deadline=None)
@given(counts=COUNTS, start=st.integers(0, 1000), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_an_order_does_not_depend_on_how_it_is_divided_into_batches(
    counts: list[int], start: int, cuts: list[int]
) -> None:
    order = FileOrder(np.asarray(counts))
    pieces, at = [], start
    for size in cuts:
        pieces += order.record_indices(at, size, KEY).tolist()
        at += size
    assert pieces == order.record_indices(start, at - start, KEY).tolist()


def test_epochs_and_keys_differ() -> None:
    counts = [2] * 30
    epochs = [tuple(epoch_of(counts, epoch)) for epoch in range(20)]
    assert len(set(epochs)) == 20
    order = FileOrder(np.asarray(counts))
    keys = [tuple(order.record_indices(0, 60, np.asarray([seed, 0], np.uint32)).tolist()) for seed in range(20)]
    assert len(set(keys)) == 20
    typed = order.record_indices(0, 60, jax.random.key(7)).tolist()
    assert typed == order.record_indices(0, 60, jax.random.key_data(jax.random.key(7))).tolist()


@pytest.mark.parametrize(
    ("start", "size", "error_type", "message"),
    [
        (-1, 2, ValueError, "a position is 0 or more, not -1"),
        (0, -2, ValueError, "size is 0 or more, not -2"),
        (1.0, 2, TypeError, "a position is an integer, not 1.0"),
        (0, 2.0, TypeError, "size is an integer, not 2.0"),
    ],
)
def test_invalid_positions_are_refused(start: Any, size: Any, error_type: type[Exception], message: str) -> None:
    with pytest.raises(error_type, match=message):
        FileOrder(np.asarray([3, 4])).record_indices(start, size, KEY)


def test_invalid_traced_positions_are_refused() -> None:
    order = FileOrder(np.asarray([3, 4]))
    with pytest.raises(TypeError, match="a position is an integer, not float32"):
        jax.jit(lambda start: order.record_indices(start, 2, KEY))(1.0)
    small = jax.jit(lambda start: order.record_indices(start, 2, KEY))(np.int8(5))
    assert small.tolist() == order.record_indices(5, 2, KEY).tolist()
    with pytest.raises(
        ValueError, match="2147483648 records are more than the 2147483647 that 32-bit positions under jit"
    ):
        jax.jit(lambda start: FileOrder(np.asarray([2**31])).record_indices(start, 2, KEY))(0)


@pytest.mark.parametrize("group", [2, 7, 100])
@pytest.mark.parametrize("order", ["sequential", "shuffle", "shuffle_files"])
def test_files_written_in_groups_are_read_with_a_warning(tmp_path: Path, group: int, order: str) -> None:
    flags = {} if order == "sequential" else {order: True}
    (tmp_path / "grouped").mkdir()
    (tmp_path / "single").mkdir()
    expected = source_of(write_numbers(tmp_path / "single", [50, 3, 30]), rngs=nnx.Rngs(0), **flags)
    files = write_numbers(tmp_path / "grouped", [50, 3, 30], f"group_size:{group}")
    written = f"3 of 3 files, {files[0]} first, are written in groups of {group} records"
    message = f"{written}, all of which are read and decompressed"
    with pytest.warns(UserWarning, match=message) as warned:
        source = source_of(files, rngs=nnx.Rngs(0), **flags)
    assert len(warned) == 1
    assert "write them with the option group_size:1, as datarax_arrayrecord.write does" in str(warned[0].message)
    key_data = source.order_key_data()
    for start, size in ((0, 83), (3, 40), (60, 60), (5, 1)):
        assert ids(source.get_batch_at(start, size, key_data)) == ids(expected.get_batch_at(start, size, key_data))


@pytest.fixture(scope="module")
def two_hundred(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return undecoded sources of 200 records, one for each way of reading a file."""
    folder = tmp_path_factory.mktemp("two-hundred")
    kinds = ["group_size:1", "group_size:1,uncompressed", "group_size:9"]
    files = [write(folder / f"{number}", map(record, range(200)), kind) for number, kind in enumerate(kinds)]
    with pytest.warns(UserWarning, match="1 of 1 files, .* are written in groups of 9 records"):
        return [source_of(file, decoder=None) for file in files]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(0, 199), min_size=1, max_size=150))
def test_rows_are_read_in_any_order_and_may_repeat(two_hundred: list[Any], rows: list[int]) -> None:
    for source in two_hundred:
        assert source.get_elements(np.asarray(rows)) == [record(row) for row in rows]
