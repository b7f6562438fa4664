"""Mistakes with windows, each with its message: windows that do not fit, fields that cannot be cut, useless options."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from datarax_core import Pipeline, load_config
from datarax_core.config import StructuralConfig
from datarax_core.errors import ConfigError, RecordError, SpecError
from datarax_core.records import Ragged
from datarax_core.sources import DataSourceModule, SourceView
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import WindowView, WindowViewConfig

LENGTHS = [9, 2, 30, 0, 7]


def held(**columns: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(placement="host"), columns)


def ragged(lengths: list[int]) -> Ragged:
    return Ragged.from_list([np.arange(n) for n in lengths], np.int64, (None,))


def window(source: DataSourceModule, **options: Any) -> WindowView:
    return WindowView(WindowViewConfig(**options), source)


# -- windows that do not fit ---------------------------------------------------------------------------------------------------


def test_a_window_longer_than_all_records_is_refused() -> None:
    source = held(x=np.arange(10))
    with pytest.raises(
        SpecError, match=r"of MemorySource is empty: 10 records are too few for a window of 11; take a smaller"
    ):
        window(source, length=11)
    with pytest.raises(
        SpecError, match=r"10 records are too few for a window of 10 and its targets, 1 further on; take a "
    ):
        window(source, length=10, shift=1)
    with pytest.raises(SpecError, match=r"10 records are too few for one element and its target, 10 further on$"):
        window(source, length=5, shift=10, remainder="pad")
    with pytest.raises(SpecError, match=r"empty: 5 records of 48 elements in all are too few for a window of 49"):
        window(held(x=ragged(LENGTHS)), length=49, cross=True)
    assert len(window(source, length=11, remainder="pad")) == 1


def test_records_shorter_than_a_window_are_refused_unless_told_what_to_do() -> None:
    source = held(x=ragged(LENGTHS))
    match = (
        r"record 0 of WindowView of MemorySource has 9 elements in field 'x', too few for a window of 10, as have 3 more of 5 "
        r"records. Say what to do: too_short: drop leaves such records out; remainder: pad completes them"
    )
    with pytest.raises(SpecError, match=match):
        window(source, length=10)
    with pytest.raises(
        SpecError, match=r"record 3 .* has 0 elements in field 'x', too few for a window of 1\. Say what to do"
    ):
        window(source, length=1)
    with pytest.raises(
        SpecError, match=r"record 3 .* 0 elements .*, too few for a window, which has one at least\. Say what"
    ):
        window(source, length=4, remainder="pad")
    with pytest.raises(
        SpecError, match=r"record 0 .* too few for a window of 31, as have all 5 records; the longest has 30; "
    ):
        window(source, length=31, too_short="drop")
    assert len(window(source, length=10, too_short="drop")) == 3


def test_lengths_that_records_do_not_have_are_noticed() -> None:
    class Unknown(SourceView):
        def record_lengths(self, field: str) -> None:  # noqa: ARG002
            return None

        def whole_column(self, field: str) -> None:  # noqa: ARG002
            return None

    source = held(x=ragged(LENGTHS), n=np.array([9, 2, 40, 5, 7]))
    match = r"record 2 of {}MemorySource: field 'x' has 30 elements, which is not the length that its windows were counted by"
    with pytest.raises(RecordError, match=match.format("")):
        window(source, length=2, length_field="n")
    unknown = Unknown(StructuralConfig(), source)
    view = window(unknown, length=2, length_field="n")
    assert len(view) == 4 + 1 + 20 + 2 + 3
    assert view.fetch(np.array([5, 19]))["x"].tolist() == [[0, 1], [28, 29]]
    with pytest.raises(RecordError, match=match.format("Unknown of ")):
        view.fetch(np.array([24, 5]))
    crossing = window(unknown, length=4, length_field="n", cross=True)
    with pytest.raises(RecordError, match=match.format("Unknown of ")):
        crossing.fetch(np.arange(len(crossing)))


def test_fields_of_unequal_lengths_are_not_cut_together() -> None:
    one, other = ragged([4, 6, 5]), ragged([4, 6, 7])
    with pytest.raises(
        RecordError, match=r"record 2 of .*: fields 'x' and 'y' have 5 and 7 elements; windows are cut of"
    ):
        window(held(x=one, y=other), length=2)
    assert window(held(x=one, y=other), length=2, field="y")[3]["x"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(SpecError, match=r"fields 'x' and 'y' of .* have length 4 and length 3, and are cut together"):
        window(held(x=np.zeros((2, 4)), y=np.zeros((2, 3))), length=2, inside=True, field=("x", "y"))
    with pytest.raises(SpecError, match=r"fields 'x' and 'y' of .* have varying lengths and length 3"):
        window(held(x=one, y=np.zeros((3, 3))), length=2, inside=True, field=("x", "y"))


# -- fields --------------------------------------------------------------------------------------------------------------------

FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"field": "token"}, r"have no field 'token'; did you mean 'tokens'\? \(fields: image, label, series, tokens\)"),
    (
        {"field": "label", "inside": True},
        r"'label' of .* is int64\[\], one value a record, and windows inside records are cut",
    ),
    (
        {"field": "image"},
        r"'image' of .* is uint8\[None, None\], and windows are cut of fields of which the first axis alone",
    ),
    (
        {"inside": False},
        r"'image' of .* is uint8\[None, None\], and windows of records that follow one another are cut of",
    ),
    (
        {"field": "tokens", "inside": False},
        r"'tokens' of .* is int64\[None\], and windows of records .*; cut inside records",
    ),
    (
        {"field": "label", "too_short": "drop"},
        r"too_short of .* has no use: the records that follow one another are one seq",
    ),
    (
        {"field": "label", "length_field": "label"},
        r"length_field of .* has no use: the records that follow one another",
    ),
    (
        {"field": "series", "inside": True, "length_field": "label"},
        r"length_field of .* has no use: field 'series' has 6 elements in each record",
    ),
    ({"shift": 1, "target_field": "label"}, r"makes a field 'label', and has one of that name; set target_field"),
    ({"shift": 1, "target_field": "tokens"}, r"makes a field 'tokens', and has one of that name; set target_field"),
    ({"remainder": "pad", "mask_field": "label"}, r"makes a field 'label', and has one of that name; set mask_field"),
    (
        {"remainder": "pad", "shift": 1, "mask_field": "a", "target_field": "a"},
        r"makes a field 'a', and has one of that name; set target_field",
    ),
    (
        {"field": ("label", "series"), "shift": 1},
        r"cuts the fields label, series; say which of them targets are taken of",
    ),
    ({"shift": 1, "target_of": "label"}, r"target_of='label' of .* is none of the fields that are cut: tokens"),
    (
        {"remainder": "pad", "pad_value": {"label": 1}},
        r"pad_value of .* names the field 'label', which is not cut: tokens",
    ),
    (
        {"remainder": "pad", "pad_value": 0.5},
        r"pad_value of .*: 0.5 is no value of int64 to pad with, the dtype of field 'tok",
    ),
]


@pytest.mark.parametrize(("options", "match"), FIELDS)
def test_a_field_that_cannot_be_cut_or_made_is_refused(options: dict[str, Any], match: str) -> None:
    images = Ragged.from_list([np.zeros((h, 2 + h), np.uint8) for h in range(3)])
    source = held(tokens=ragged([3, 4, 5]), label=np.arange(3), image=images, series=np.zeros((3, 6)))
    with pytest.raises(SpecError, match=match):
        window(source, **{"length": 2, **options})


def test_records_without_names_get_no_new_fields() -> None:
    source = MemorySource(MemorySourceConfig(), np.arange(10))
    with pytest.raises(
        SpecError, match=r"makes dicts of fields, and the records of MemorySource have none by name; give them"
    ):
        window(source, length=2, shift=1)


def test_windows_inside_records_of_which_none_varies_need_a_field() -> None:
    with pytest.raises(
        SpecError, match=r"cuts inside records, none of whose fields varies in length; name the field to cut"
    ):
        window(held(x=np.zeros((3, 4))), length=2, inside=True)


def test_fields_with_nothing_to_pad_with_are_refused() -> None:
    dates = held(when=np.arange(9).astype("datetime64[s]"))
    with pytest.raises(
        SpecError, match=r"'when' of .* is datetime64\[s\], which has nothing to pad with; leave out remainder"
    ):
        window(dates, length=4, remainder="pad")
    small = held(x=np.arange(5).astype(jnp.bfloat16))
    assert window(small, length=3, remainder="pad", pad_value=-1)[1]["x"].tolist() == [3, 4, -1]
    texts = held(word=np.array(["a", "bc", "d"]))
    assert window(texts, length=2, remainder="pad")[1]["word"].tolist() == ["d", ""]
    with pytest.raises(SpecError, match=r"pad_value of .*: 0 is no text, the dtype of field 'word'"):
        window(texts, length=2, remainder="pad", pad_value=0)


# -- sources and indices -------------------------------------------------------------------------------------------------------


def test_a_stream_and_what_is_no_source_have_no_windows() -> None:
    class Stream(DataSourceModule):
        def get_batch(self, batch_size: int) -> Any:
            return {"x": np.zeros(batch_size)}

    with pytest.raises(
        NotImplementedError, match=r"WindowView needs records by index, and Stream is a stream, which is read"
    ):
        window(Stream(StructuralConfig()), length=2)
    with pytest.raises(TypeError, match="WindowView is a view of a source, not of"):
        window([1, 2, 3], length=2)  # type: ignore[arg-type]


def test_indices_out_of_range_are_refused() -> None:
    view = window(held(x=np.arange(10)), length=3)
    for index in (3, -1):
        with pytest.raises(
            IndexError, match=rf"record {index} is out of range: WindowView of MemorySource has 3 records"
        ):
            view.fetch(np.array([0, index]))


# -- configs -------------------------------------------------------------------------------------------------------------------

USELESS: list[tuple[dict[str, Any], str]] = [
    ({"target_field": "next"}, "target_field has no use without shift; leave it out"),
    ({"target_of": "x"}, "target_of has no use without shift; leave it out"),
    ({"pad_value": 0}, "pad_value has no use without remainder='pad'; leave it out"),
    ({"mask_field": "real"}, "mask_field has no use without remainder='pad'; leave it out"),
    ({"inside": False, "cross": True}, "cross goes on from record to record inside of records, and inside is False"),
    ({"inside": False, "too_short": "drop"}, "too_short is of windows inside records, and inside is False"),
    ({"inside": False, "length_field": "n"}, "length_field is of windows inside records, and inside is False"),
    (
        {"cross": True, "too_short": "drop"},
        "too_short is of records that are cut one by one, and cross goes on to the next",
    ),
    ({"field": ["x", "x"]}, "the field 'x' is named twice; name it once"),
    ({"length": 0}, "greater than or equal to 1"),
    ({"stride": 0}, "greater than or equal to 1"),
    ({"shift": -1}, "greater than or equal to 0"),
    ({"remainder": "keep"}, "'drop', 'pad' or 'overlap'"),
]


@pytest.mark.parametrize(("options", "match"), USELESS)
def test_options_that_contradict_one_another_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        WindowViewConfig(**{"length": 4, **options})


def test_a_config_file_needs_a_source(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("batch_size: 2\nsource: {type: window, length: 4}\n")
    message = "train.yaml:2: source.source: window in a config needs its 'source': the source that it is a view of"
    with pytest.raises(ConfigError, match=message):
        load_config(file)
    assert WindowViewConfig(length=4).source is None  # in Python, where the source is an argument


def test_a_config_file_serves_windows(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    np.save(tmp_path / "tokens" / "tokens.npy", np.arange(41, dtype=np.uint16))
    file = tmp_path / "train.yaml"
    file.write_text(
        """
        batch_size: 2
        source:
          type: window
          length: 8
          shift: 1
          shuffle: true
          source: {type: memory, path: tokens}
        stages:
          - {type: rescale, field: tokens, scale: 0.5, dtype: float32}
        """
    )
    batches = list(Pipeline.from_config(file))
    rows, targets = (np.concatenate([batch[name] for batch in batches]) for name in ("tokens", "targets"))
    assert sorted(rows[:, 0].tolist()) == [0, 4, 8, 12, 16]
    np.testing.assert_array_equal(rows * 2 + 1, targets)
