"""Class numbers of texts, bytes and integers, by a list or a file; unknown values; what is no list of classes."""

import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Cache, Lookup, Pipeline, StageError, StateError, from_sequence
from datarax_core.records.ragged import Ragged

SPEC = {"text": jax.ShapeDtypeStruct((), np.dtype("U")), "raw": jax.ShapeDtypeStruct((), np.dtype("S")),
        "n": jax.ShapeDtypeStruct((), np.dtype("int64")), "f": jax.ShapeDtypeStruct((), np.dtype("float32")),
        "many": jax.ShapeDtypeStruct((None,), np.dtype("uint8"))}  # fmt: skip


def made(column: Any, name: str = "text", **options: Any) -> Any:
    return Lookup(field=name, **options).build(SPEC, None)({name: column})[name]


def test_texts_and_bytes_become_the_places_of_their_classes() -> None:
    classes = ("cat", "dog", "é")
    for column in (np.array(["dog", "é", "cat"], object), np.array(["dog", "é", "cat"])):
        numbers = made(column, classes=classes)
        assert (numbers.dtype, numbers.tolist()) == (np.int32, [1, 2, 0])
    assert made(np.array([b"dog", "é".encode()], object), "raw", classes=classes, dtype="uint8").tolist() == [1, 2]
    assert made(np.array(["cow", "cat"], object), classes=classes, unknown=-1).tolist() == [-1, 0]
    assert made(np.array([["cat", "dog"]], object), classes=classes).tolist() == [[0, 1]]
    assert made(np.array([], object), classes=classes).dtype == np.int32


@pytest.mark.parametrize("dtype", ["int64", "uint8", "uint64", ">i4"])
def test_integers_become_the_places_of_their_classes(dtype: str) -> None:
    classes = (200, 7, 2**63 - 1, -4)
    assert made(np.array([7, 200, 7], dtype), "n", classes=classes).tolist() == [1, 0, 1]
    assert made(np.array([8, 200], dtype), "n", classes=classes, unknown=99).tolist() == [99, 0]
    assert made(np.array([3], dtype), "n", classes=(2**70,), unknown=5).tolist() == [5]
    assert made(np.array([], dtype), "n", classes=(2**70,)).tolist() == []


def test_large_integers_are_compared_exactly() -> None:
    assert made(np.array([2**63 + 1], np.uint64), "n", classes=(2**63, 2**63 + 1)).tolist() == [1]
    with pytest.raises(StageError, match=f"holds {2**53 + 1}, which is none of the 1 classes"):
        made(np.array([2**53 + 1]), "n", classes=(2**53,))


def test_values_of_varying_length_are_looked_up() -> None:
    column = Ragged(
        np.array([9, 5, 7, 5, 9], np.uint8), [1, 3, 3, 4]
    )  # a part of a column, whose other values are no classes
    numbers = made(column, "many", classes=(5, 7))
    assert isinstance(numbers, Ragged)
    assert [row.tolist() for row in numbers] == [[0, 1], [], [0]]
    stage = Lookup(field="many", classes=(5, 7), to="ids", dtype="int8").build(SPEC, None)
    assert stage.element_spec(SPEC)["ids"] == jax.ShapeDtypeStruct((None,), np.dtype("int8"))  # type: ignore[attr-defined]
    both = stage({"many": column})
    assert both["many"] is column
    assert both["ids"].dtype == np.int8


def test_a_file_has_a_class_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("\ufeffcat\r\nbig dog\r\né\r\n".encode())
    assert made(np.array(["é", "big dog", "cat"], object), file=file).tolist() == [2, 1, 0]
    file.write_text("12\n7")
    assert made(np.array([7, 12]), "n", file=file).tolist() == [1, 0]
    stage = Lookup(field="n", file=file).build(SPEC, None)
    file.unlink()
    again = pickle.loads(pickle.dumps(stage))  # noqa: S301 - our own bytes
    assert again == stage
    assert hash(again) == hash(stage)
    assert again({"n": np.array([7])})["n"].tolist() == [1]
    assert again.classes == (12, 7)


def _reread(lookup: Lookup) -> Lookup:
    return Lookup(field=lookup.field, file=lookup.file)


def test_a_stage_that_is_called_by_itself_works_and_is_kept_by_a_cache(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("b\na\n")
    source = from_sequence([{"x": name} for name in "abba"])
    lookup = Lookup(field="x", file=tmp_path / "classes.txt")
    pipeline = Pipeline(source=source, stages=[Cache(lookup, source)], batch_size=2, num_epochs=2)
    (served,) = {tuple(np.concatenate([batch["x"] for batch in pipeline]).tolist()) for _ in range(2)}
    assert served == (1, 0, 0, 1) * 2
    assert lookup({"x": np.array(["b"], object)})["x"].tolist() == [0]
    (tmp_path / "classes.txt").write_text("a\nb\n")
    state = pipeline.get_state()
    with pytest.raises(StateError, match="classes"):
        Pipeline(source=source, stages=[Cache(_reread(lookup), source)], batch_size=2, num_epochs=2).set_state(state)
    assert lookup.build({"x": SPEC["text"]}, nnx.Rngs())({"x": np.array(["b"], object)})["x"].tolist() == [1]
    (tmp_path / "classes.txt").write_text("b\na\n")
    assert pickle.loads(pickle.dumps(lookup)) == lookup == Lookup(field="x", file=tmp_path / "classes.txt")  # noqa: S301


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a list, `classes`, or the lines of a `file`; neither is given"),
        ({"classes": ("a",), "file": "x"}, "both are given"),
        ({"classes": ()}, "at least 1 item"),
        ({"classes": ("a", "b", "a")}, "the class 'a' is in the list twice, so that it would have two numbers; name it once"),
        ({"classes": ("a", 1)}, "valid string|valid integer"),
        ({"classes": (1.0,)}, "valid string|valid integer"),
        ({"file": "s3://x/y.txt"}, "s3://x/y.txt"),
        ({"classes": ("a",), "unknown": 0.5}, "valid integer"),
        ({"classes": ("a",), "dtype": "float32"}, "should be 'int8'"),
    ],
)  # fmt: skip
def test_a_bad_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lookup.model_validate({"field": "x", **options})


@pytest.mark.parametrize(
    ("name", "options", "option", "message"),
    [
        ("txt", {"classes": ("a",)}, ("field",), "no field 'txt'"),
        ("f", {"classes": ("a",)}, ("field",), r"field 'f' is float32\[\]; classes are texts or integers"),
        ("text", {"classes": (1, 2)}, ("classes",), "and the classes are integers; write them as texts, in quotes"),
        ("n", {"classes": ("1",)}, ("classes",), "and the classes are texts; write them as integers without quotes"),
        ("text", {"classes": ("a",), "to": "n"}, ("to",), "the name 'n' is taken"),
        ("n", {"classes": tuple(range(129)), "dtype": "int8"}, ("dtype",), "int8 does not hold 128, the number of the last"),
        ("n", {"classes": (1,), "dtype": "uint8", "unknown": -1}, ("dtype",), "does not hold -1, the number of unknown"),
        ("text", {"file": "none.txt"}, ("file",), r"none\.txt cannot be read: No such file"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_work_is_refused_when_it_is_built(
    name: str, options: Any, option: Any, message: str
) -> None:
    with pytest.raises(StageError, match=message) as refused:
        Lookup(field=name, **options).build(SPEC, None)
    assert refused.value.option == option


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        (b"", "text", r"classes\.txt is empty; write a class on each line"),
        (b"a\n\nb\n", "text", r"classes\.txt:2: the line is empty"),
        (b"a\nb\na\n", "text", r"classes\.txt:3: the class 'a' is on line 1 already; name it once"),
        (b"\xff\xfe", "text", r"classes\.txt cannot be read: it is no UTF-8"),
        (b"1\ntwo\n", "n", r"classes\.txt:2: 'two' is no integer, as the classes of a field of integers are"),
        (b"7\n07\n", "n", r"classes\.txt: the class 7 is in the list twice"),
    ],
)
def test_a_file_that_is_no_list_of_classes_is_refused(tmp_path: Path, content: bytes, field: str, message: str) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(StageError, match=message) as refused:
        Lookup(field=field, file=tmp_path / "classes.txt").build(SPEC, None)
    assert refused.value.option == ("file",)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.array(["cat", "dgo"], object), r"holds 'dgo', which is none of the 2 classes; did you mean 'dog'\?; add it to"),
        (np.array([None], object), "holds None, which is none of the 2 classes; add it to `classes`, or set unknown"),
        (np.array([["x"], ["y", "z"]], object), r"'text' holds \['x'\], which is none of the 2 classes"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_class_is_refused(column: np.ndarray, message: str) -> None:
    with pytest.raises(StageError, match=message):
        made(column, classes=("cat", "dog"))
