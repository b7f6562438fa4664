"""Data sets that cannot be sources, and records that cannot be served: each is refused with its index and field."""

from collections.abc import Callable
from typing import Any

import grain
import jax
import numpy as np
import pytest
from recorded_reads import BatchReads, Reads

from datarax_core import Pipeline, SequenceSource, SpecError, from_sequence

RECORDS = [{"id": i, "x": np.asarray([i, i], np.float32)} for i in range(20)]


def odd(element: Any, *, kind: type[Reads] = Reads) -> SequenceSource:
    """Return a source whose record 3 is ``element``; the fields of the others are a number, an array and text."""
    data = [{"n": i, "a": np.zeros(2, np.float32), "t": "x"} for i in range(5)]
    data[3] = element
    return from_sequence(kind(data), name="odd")


GOOD = {"n": 1, "a": np.zeros(2, np.float32), "t": "x"}
DIFFERENT: dict[str, tuple[Any, str]] = {
    "dtype": (GOOD | {"a": np.zeros(2)}, r"field 'a' is float64\[2\] where float32\[2\] is expected"),
    "axes": (
        GOOD | {"a": np.zeros((2, 1), np.float32)},
        r"field 'a' is float32\[2, 1\] where float32\[2\] is expected",
    ),
    "a fraction": (GOOD | {"n": 0.5}, r"field 'n' is float64\[\] \(0\.5\) where int64\[\] is expected"),
    "too large": (
        GOOD | {"n": 2**70},
        r"field 'n' is object\[\] \(1180591620717411303424\) where int64\[\] is expected",
    ),
    "text for a number": (GOOD | {"n": "1"}, r"field 'n' is object\[\] \('1'\) where int64\[\] is expected"),
    "a number for text": (GOOD | {"t": 5}, r"field 't' is int64\[\] \(5\) where object\[\] is expected"),
    "a typed number": (
        GOOD | {"n": np.int32(1)},
        r"field 'n' is int32\[\] \(np.int32\(1\)\) where int64\[\] is expected",
    ),
    "missing": ({"n": 1, "t": "x"}, r"field 'a' \(float32\[2\]\) is missing$"),
    "unexpected": (GOOD | {"m": 1}, r"field 'm' \(int64\[\]\) is not expected$"),
    "no dict": (7, r"field 'a' \(float32\[2\]\) is missing; .*field 'record' \(int64\[\]\) is not expected"),
}


@pytest.mark.parametrize("kind", [Reads, BatchReads])
@pytest.mark.parametrize(("element", "message"), DIFFERENT.values(), ids=DIFFERENT)
def test_an_element_that_differs_is_named_with_the_difference(element: Any, message: str, kind: type[Reads]) -> None:
    with pytest.raises(
        SpecError, match=r"^record 3 of SequenceSource 'odd' is not what the element spec says: .*" + message
    ):
        odd(element, kind=kind).get_batch(5)


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (
        None,
        SpecError,
        r"^record 3 of SequenceSource 'odd' is None: the data set has no such record, as when Grain",
    ),
    "None in it": (
        GOOD | {"n": None},
        SpecError,
        r"^field 'n' of record 3 of SequenceSource 'odd' is None, which no arr",
    ),
    "ragged": (GOOD | {"a": [[1], [1, 2]]}, SpecError, r"^field 'a' of record 3 of SequenceSource 'odd' is no array: "),
    "masked": (
        GOOD | {"a": np.ma.array([1, 2])},
        TypeError,
        r"^field 'a' of record 3 of SequenceSource 'odd' is masked",
    ),
    "names": ({3: 1}, SpecError, r"^the fields of record 3 of SequenceSource 'odd' have names, which are text, not 3$"),
}


@pytest.mark.parametrize(("element", "kind", "message"), BAD.values(), ids=BAD)
def test_an_element_that_no_batch_can_hold_is_refused(element: Any, kind: type[Exception], message: str) -> None:
    source = odd(element)
    source.get_batch(3)
    with pytest.raises(kind, match=message):
        source.get_batch(2)


def test_a_declared_dtype_that_a_number_does_not_fit_is_an_error() -> None:
    for dtype, value in ((np.uint8, 300), (np.uint8, -1), (np.int8, 0.5), (np.float32, 1e300), ("<U2", "abc")):
        source = from_sequence([value], element_spec=jax.ShapeDtypeStruct((), np.dtype(dtype)))
        with pytest.raises(
            SpecError, match=r"^record 0 of SequenceSource .* field 'record' is \w+\[\] \(.*\) where .* is ex"
        ):
            source.get_batch(1)


def test_a_record_that_grain_filtered_out_is_refused_by_its_index() -> None:
    source = from_sequence(grain.MapDataset.range(10).filter(lambda i: i != 6), name="filtered")
    with pytest.raises(
        SpecError, match=r"^record 6 of SequenceSource 'filtered' is None: .*filter.* filter records before t"
    ):
        list(Pipeline(source=source, batch_size=5))
    with pytest.raises(SpecError, match=r"^record 0 of SequenceSource is None"):
        from_sequence(grain.MapDataset.range(4).filter(lambda i: i > 0)).element_spec()


def test_an_index_that_grain_would_wrap_is_refused() -> None:
    source = from_sequence(grain.MapDataset.range(10))
    for wrong in (10, -1):
        with pytest.raises(IndexError, match=rf"^record {wrong} is out of range: SequenceSource has 10 records$"):
            source.get_records(np.asarray([0, wrong]))


def test_a_data_set_without_an_end_is_refused_and_a_finite_part_of_one_is_not() -> None:
    endless = grain.MapDataset.range(10).seed(0).shuffle().repeat()
    for data in (endless, endless.map(lambda i: i), endless.batch(4), endless.batch(4).map(lambda batch: batch)):
        with pytest.raises(
            ValueError, match=r"^SequenceSource was given a \w+ without an end; leave out its repeat\(\): a p"
        ):
            from_sequence(data)
    source = from_sequence(endless.slice(slice(0, 25)))
    assert [int(i) for i in source.get_batch(25)] == [endless[i] for i in range(25)]
    assert len(from_sequence(grain.MapDataset.range(10).repeat(3))) == 30


NO_DATA_SETS: dict[str, tuple[Any, str]] = {
    "text": ("abc", "^SequenceSource 'x' was given a str; pass a list, or a data set that has len"),
    "a dict": ({"a": [1]}, "^SequenceSource 'x' was given a dict; pass"),
    "an iterator": (
        iter([1]),
        r"^SequenceSource 'x' was given a list_iterator, which can be read only once; pass list\(",
    ),
    "a stream": (grain.MapDataset.range(3).to_iter_dataset(), r"which has no len\(\) or no index; pass list\("),
    "a number": (3, r"^SequenceSource 'x' was given a int, which has no len\(\) or no index"),
}


@pytest.mark.parametrize(("data", "message"), NO_DATA_SETS.values(), ids=NO_DATA_SETS)
def test_an_object_that_is_no_data_set_is_refused(data: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        from_sequence(data, name="x")


def test_an_empty_data_set_is_refused_when_records_are_read() -> None:
    assert len(from_sequence([])) == 0
    with pytest.raises(
        ValueError, match=r"^SequenceSource is empty: it has no record that says what records look like$"
    ):
        from_sequence([]).element_spec()
    for nothing in ({}, (), {"a": {}}):
        with pytest.raises(
            SpecError, match=r"^record 0 of SequenceSource is empty, like .*; each needs a field at least$"
        ):
            from_sequence([nothing]).element_spec()


def test_wrong_arguments_of_a_source_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^SequenceSource needs a SequenceSourceConfig, not "):
        SequenceSource({"shuffle": True}, [1])  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^the element_spec of SequenceSource has a jax.ShapeDtypeStruct for each field"
    ):
        from_sequence([1], element_spec={"x": np.int32})
    with pytest.raises(ValueError, match=r"^seed is at least 0, not -1$"):
        from_sequence([1], seed=-1)


class Breaks(Reads):
    """A data set whose record 7 cannot be read."""

    def __getitem__(self, index: int) -> Any:
        if index == 7:
            raise OSError("bad sector")
        return super().__getitem__(index)


class BreaksInBatches(Breaks):
    """A data set whose record 7 cannot be read, read in batches."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("make", [Breaks, BreaksInBatches, lambda data: grain.MapDataset.source(Breaks(data))])
def test_an_error_of_the_data_set_names_the_record(make: Callable[[Any], Any], prefetch: int) -> None:
    source = from_sequence(make(RECORDS), name="disk")
    with pytest.raises(OSError, match="bad sector") as caught:
        list(Pipeline(source=source, batch_size=4, prefetch=prefetch))
    assert [
        note for note in caught.value.__notes__ if "read record 7 of its" in note and "SequenceSource 'disk'" in note
    ]


def test_an_error_of_no_single_record_names_all_records_of_the_call() -> None:
    class Refuses(Reads):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            raise MemoryError(len(indices))

    with pytest.raises(MemoryError) as caught:
        from_sequence(Refuses(RECORDS)).get_batch(3)
    assert caught.value.__notes__ == ["while SequenceSource read one of the records [0] of its Refuses"]


@pytest.mark.parametrize("answer", [{"id": [0, 1, 2]}, [RECORDS[0]]])
def test_a_batch_that_is_no_list_of_one_element_for_each_index_is_refused(answer: Any) -> None:
    class Wrong(Reads):
        def __getitems__(self, indices: list[int]) -> Any:
            del indices
            return answer

    with pytest.raises(
        SpecError, match=r"^SequenceSource asked its Wrong for [13] elements in one call and was given \w+ of 1; "
    ):
        from_sequence(Wrong(RECORDS)).get_batch(3)


class Ends(list[Any]):
    def __getitem__(self, index: Any) -> Any:
        return next(iter(()))


def test_stop_iteration_of_a_data_set_ends_no_loop() -> None:
    source = from_sequence(Ends([{"x": 1}]), name="ends")
    for read in (source.element_spec, lambda: source.get_batch(1), lambda: source.get_batch_at(0, 1)):
        with pytest.raises(RuntimeError, match=r"^SequenceSource 'ends' raised StopIteration for records"):
            read()
