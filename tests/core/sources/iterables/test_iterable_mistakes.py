"""Mistakes in what a stream iterates, each with its place and what to do."""

import pickle
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import Pipeline, from_iterable, from_sequence
from datarax_core.errors import SpecError


def numbers(count: int = 10) -> Iterator[dict[str, Any]]:
    yield from ({"x": number} for number in range(count))


def with_one(value: Any) -> Any:
    """Return a stream whose element 5 is another one."""
    return from_iterable(lambda: (value if element["x"] == 5 else element for element in numbers()), name="odd")


ONE = numbers()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (numbers(), "was given a generator, which can be read once only, and an epoch begins anew: pass the function"),
        (iter([1]), "was given a list_iterator, which can be read once only"),
        ("abc", "was given 'abc', which is no iterable of elements; pass a function that returns one"),
        ({"x": [1]}, "which is no iterable of elements"),
        (3, "was given 3, which is no iterable"),
        (np.zeros(3, [("a", int)]), "was given a structured array, whose names are fields"),
        (from_sequence([1, 2]), "was given SequenceSource, which is a source already"),
        (lambda epoch, seed: numbers(epoch + seed), r"and it needs epoch, seed; bind them, as functools\.partial does"),
    ],
)
def test_what_cannot_be_iterated_anew_is_refused(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        from_iterable(make)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: None,
            TypeError,
            r"made of <lambda>\(\), which returned None, where an iterable of elements is expected",
        ),
        (lambda: "abc", TypeError, "which returned 'abc', where an iterable"),
        (list, ValueError, "whose iterable is empty: it has no element that says what records look like"),
        (lambda: ONE, RuntimeError, "which returned the same generator a second time, where it has to make a new one"),
        (lambda: [{}], SpecError, "is empty"),
    ],
)
def test_a_function_that_makes_no_elements_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_iterable(make).get_batch(2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "element 5 of epoch 0 of IterableSource 'odd' is None"),
        ({"x": None}, "field 'x' of element 5 of epoch 0 of IterableSource 'odd' is None"),
        ({"x": "a"}, r"element 5 of epoch 0 .* field 'x' is object\[\] \('a'\) where int64\[\] is expected"),
        ({"x": np.arange(3)}, r"element 5 of epoch 0 .* int64\[3\] where int64\[\] is expected"),
        ({"y": 1}, "element 5 of epoch 0 of .* is not what the element spec says"),
    ],
)
def test_an_element_that_does_not_fit_is_named(value: Any, message: str) -> None:
    source = with_one(value)
    assert source.get_batch(4)["x"].tolist() == [0, 1, 2, 3]
    for _ in range(2):
        with pytest.raises(SpecError, match=message):
            source.get_batch(4)


def test_an_error_of_the_iterable_names_the_element() -> None:
    def failing(epoch: int) -> Iterator[Any]:
        yield from numbers(3)
        if epoch:
            raise OSError("the disk is gone")

    pipeline = Pipeline(source=from_iterable(failing), batch_size=3, num_epochs=2)
    with pytest.raises(OSError, match="the disk is gone") as caught:
        list(pipeline)
    assert "while IterableSource read element 3 of epoch 1 of generator" in caught.value.__notes__
    spec = {"x": jax.ShapeDtypeStruct((), np.int64)}
    with pytest.raises(ZeroDivisionError) as first:
        from_iterable(lambda: (1 // 0 for _ in range(2))).element_spec()
    assert first.value.__notes__ == ["while IterableSource read the first element of generator"]
    assert from_iterable(lambda: failing(1), element_spec=spec).get_batch(3)["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("length", "message"), [(12, "ended after 10 records, where length says 12"), (8, "goes on after 8")]
)
def test_another_number_of_elements_than_the_length_is_refused(length: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        list(Pipeline(source=from_iterable(numbers, length=length), batch_size=4))


def test_fields_of_a_batch_have_one_number_of_rows() -> None:
    uneven = {"x": np.arange(3), "y": [1, 2]}
    with pytest.raises(
        ValueError, match=r"a batch of BatchedIterableSource has fields of 2, 3 rows; with batched=True"
    ):
        from_iterable(lambda: [uneven], batched=True).element_spec()
    later = from_iterable(lambda: [{"x": np.arange(9), "y": range(9)}, uneven], batched=True)
    with pytest.raises(ValueError, match=r"the batch from record 9 of epoch 0 of .* has fields of 2, 3 rows"):
        list(later)
    with pytest.raises(ValueError, match="has fields of None rows"):
        from_iterable(lambda: range(3), batched=True).element_spec()


def test_a_live_stream_has_no_length_and_is_not_pickled() -> None:
    with pytest.raises(ValueError, match="a live stream has no epochs, and so no length"):
        from_iterable(numbers(), is_live=True, length=3)
    with pytest.raises(TypeError, match="a live stream cannot be pickled"):
        pickle.dumps(from_iterable(numbers(), is_live=True))
    with pytest.raises(
        TypeError, match=r"the element_spec of IterableSource has a jax\.ShapeDtypeStruct for each field"
    ):
        from_iterable(numbers, element_spec={"x": np.int32})


def test_what_has_no_index_is_pointed_here() -> None:
    with pytest.raises(TypeError, match=r"serve it as a stream, from_iterable\(data\)"):
        from_sequence({1, 2})
    with pytest.raises(TypeError, match=r"serve what makes it as a stream, from_iterable\(lambda: \.\.\.\)"):
        from_sequence(numbers())
    with pytest.raises(TypeError, match=r"from_iterable"):
        Pipeline(source=numbers(), batch_size=2)  # type: ignore[arg-type]
