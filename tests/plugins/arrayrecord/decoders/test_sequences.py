"""SequenceExamples: context and feature lists are fields, read as protobuf reads them, whatever the sizes of the steps."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_arrayrecord.decoders import ExampleDecoder
from datarax_arrayrecord.decoders import example_wire as wire
from datarax_core.errors import RecordError

TOKENS = {"tokens": {"dtype": "int64", "shape": [None]}}


def sequence(context: dict[str, tuple[str, list[Any]]] | None = None, **lists: tuple[str, list[list[Any]]]) -> bytes:
    """Return a record that protobuf wrote: features of the context, and for each list the values of its steps."""
    message = wire.SequenceExample()
    for name, (kind, values) in (context or {}).items():
        getattr(message.context.feature[name], kind).value.extend(values)
    for name, (kind, steps) in lists.items():
        of_list = message.feature_lists.feature_list[name]
        for step in steps:
            getattr(of_list.feature.add(), kind).value.extend(step)
    return message.SerializeToString()


def decoded(records: list[bytes], **fields: Any) -> dict[str, Any]:
    decoder = ExampleDecoder(fields=fields)
    batch: dict[str, Any] = decoder.decode(records, decoder.element_spec())
    return batch


def test_steps_are_the_first_axis_of_a_field() -> None:
    records = [
        sequence(
            {"label": ("int64_list", [row])},
            tokens=("int64_list", [[row * step] for step in range(row)]),
            frames=("float_list", [[row, step, 0.5] for step in range(row % 3)]),
            words=("bytes_list", [[b"w%d" % step] for step in range(row % 4)]),
        )
        for row in range(30)
    ]
    found = decoded(
        records,
        **TOKENS,
        frames={"dtype": "float32", "shape": [None, 3]},
        words={"dtype": "str", "shape": [None]},
        label={"dtype": "int32"},
    )
    assert found["label"].tolist() == list(range(30))
    assert [row.tolist() for row in found["tokens"]] == [[row * step for step in range(row)] for row in range(30)]
    assert [row.tolist() for row in found["frames"]] == [
        [[row, step, 0.5] for step in range(row % 3)] for row in range(30)
    ]
    assert [row.tolist() for row in found["words"]] == [[f"w{step}" for step in range(row % 4)] for row in range(30)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_list_is_read_as_protobuf_reads_it(data: st.DataObject) -> None:
    kind, dtype, values = data.draw(
        st.sampled_from(
            [
                ("int64_list", "int64", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300) | st.just(0x0A0A0A)),
                ("float_list", "float32", st.floats(width=32, allow_nan=False)),
                ("bytes_list", "bytes", st.binary(max_size=9) | st.just(b"\x0a\x04\x0a\x02\x0a\x00")),
            ]
        )
    )
    size = data.draw(st.integers(1, 1 if kind == "bytes_list" else 40))
    of_step = st.lists(values, min_size=size, max_size=size)
    steps = [data.draw(st.lists(of_step, max_size=6)) for _ in range(data.draw(st.integers(1, 4)))]
    shape = [None] if size == 1 else [None, size]
    found = decoded([sequence(x=(kind, one)) for one in steps], x={"dtype": dtype, "shape": shape})["x"]
    expected = [[step[0] for step in one] if size == 1 else one for one in steps]
    assert [row.tolist() for row in found] == expected


def test_numbers_may_be_the_bytes_of_each_step() -> None:
    record = sequence(
        x=("bytes_list", [[np.arange(3, dtype="<i2").tobytes()], [np.arange(3, 6, dtype="<i2").tobytes()]])
    )
    found = decoded([record], x={"dtype": "int16", "shape": [None, 3]})["x"]
    assert [row.tolist() for row in found] == [[[0, 1, 2], [3, 4, 5]]]


def test_feature_lists_of_one_number_of_steps_may_be_arrays() -> None:
    records = [sequence(x=("int64_list", [[row], [row + 1]])) for row in range(5)]
    assert decoded(records, x={"dtype": "int32", "shape": [2]})["x"].tolist() == [[row, row + 1] for row in range(5)]


def test_examples_and_sequences_may_stand_in_one_file() -> None:
    message = wire.Example()
    message.features.feature["tokens"].int64_list.value.extend([7, 8])
    records = [message.SerializeToString(), sequence(tokens=("int64_list", [[1], [2], [3]]))] * 30
    assert [row.tolist() for row in decoded(records, **TOKENS)["tokens"]] == [[7, 8], [1, 2, 3]] * 30


def test_without_fields_feature_lists_vary() -> None:
    records = [sequence({"n": ("int64_list", [2])}, x=("float_list", [[1, 2]] * count)) for count in (1, 3)]
    decoder = ExampleDecoder()
    spec = decoder.spec_from(records[0])
    assert (spec["x"].shape, spec["x"].dtype, spec["n"].shape) == ((None, 2), np.float32, ())
    assert decoder.decode(records, spec)["x"].lengths.tolist() == [1, 3]


def test_parts_of_any_other_valid_form_are_parsed_by_protobuf() -> None:
    plain = sequence({"n": ("int64_list", [2])}, tokens=("int64_list", [[1], [200]]))
    context = sequence({"n": ("int64_list", [2])})
    lists = plain[len(context) :]
    for record in (lists + context, context + lists + b"\x18\x01"):  # the other way round, and with an unknown field
        found = decoded([record], **TOKENS, n={"dtype": "int32"})
        assert [row.tolist() for row in found["tokens"]] == [[1, 200]]
        assert found["n"].tolist() == [2]


@pytest.mark.parametrize(
    ("record", "match"),
    [
        (
            sequence(tokens=("int64_list", [[1], [2, 3]])),
            "'tokens' has steps of 1 and of 2 values; only the number of steps",
        ),
        (sequence(tokens=("int64_list", [[200, 200], [2**40]])), "'tokens' has steps of 2 and of 1 values"),
        (sequence(tokens=("bytes_list", [[b"a"], [b"b", b"c"]])), "'tokens' has steps of 1 and of 2 values"),
        (sequence(tokens=("float_list", [[1.0]])), r"'tokens' has a float_list where int64\[None\]"),
        (
            sequence({"tokens": ("int64_list", [1])}, tokens=("int64_list", [[1]])),
            "'tokens' in its context and in its feature",
        ),
        (sequence(other=("int64_list", [[1]])), "the feature 'tokens' is missing; the record has 'other'"),
        (sequence(tokens=("int64_list", [[1], [2]]))[:-1], "the record is no tf.train.Example"),
        (b"\x12\x0e\x0a\x0c\x0a\x06tokens\x12\x02\x0a\x00", "'tokens' has steps of nothing; all of them hold one kind"),
    ],
)
def test_a_record_that_does_not_fit_is_named(record: bytes, match: str) -> None:
    good = sequence(tokens=("int64_list", [[1], [2]]))
    with pytest.raises(RecordError, match=match) as caught:
        decoded([good, good, record], **TOKENS)
    assert caught.value.record == 2


def test_a_list_without_steps_is_what_other_records_say() -> None:
    decoder = ExampleDecoder()
    records = [sequence(x=("int64_list", [])), sequence(x=("int64_list", [[1, 2]] * 3)), sequence(x=("int64_list", []))]
    spec = decoder.spec_from(records[0])
    assert decoder.decode([records[0]] * 2, spec)["x"].shape == (2, 0)
    for record in records:
        spec = decoder.covering(spec, record)
    assert (spec["x"].shape, spec["x"].dtype) == ((None, 2), np.int64)
    assert decoder.decode(records, spec)["x"].lengths.tolist() == [0, 3, 0]


def test_steps_without_values_do_not_say_what_they_hold() -> None:
    with pytest.raises(RecordError, match=r"'x' has steps without values, .* declare it: fields: {x: {dtype"):
        ExampleDecoder().spec_from(sequence(x=("int64_list", [[], []])))
