"""What notebooks show of sources and pipelines: their fields, and reports to unfold."""

import html
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataFileError, DataSourceModule, Pipeline, Ragged
from datarax_memory import MemorySource, MemorySourceConfig


def source_of(data: dict[str, Any]) -> MemorySource:
    return MemorySource(MemorySourceConfig(shuffle=True), data, name="a<b", rngs=nnx.Rngs(0))


def rows_of(shown: Any) -> list[list[str | None]]:
    table = ET.fromstring(shown._repr_html_()).find("table")  # noqa: S314 - our own
    assert table is not None
    return [[cell.text for cell in row] for row in table]


def test_a_table_has_dtype_and_shape_of_each_field() -> None:
    source = source_of({
        "image": np.zeros((4, 28, 28), np.uint8),
        "tokens": Ragged.from_list([np.arange(n) for n in (1, 0, 3, 2)]),
        "a<b": np.arange(4.0),
    })  # fmt: skip
    head, *rows = rows_of(source)
    assert head == ["field", "dtype", "shape"]
    assert sorted(rows) == [["a<b", "float64", "()"], ["image", "uint8", "(28, 28)"], ["tokens", "int64", "(any)"]]


def test_reports_stand_there_to_unfold() -> None:
    pipeline = Pipeline(source=source_of({"x": np.arange(10.0)}), batch_size=4)
    found = ET.fromstring(pipeline._repr_html_())  # noqa: S314 - our own
    unfolded = {part.findtext("summary"): part.findtext("pre") for part in found.findall("details")}
    assert unfolded == {"explain": pipeline.explain(), "plan": pipeline.plan()}
    assert found.findtext("code") == repr(pipeline) == str(pipeline)


def test_many_fields_are_counted() -> None:
    source = source_of({f"x{number:03}": np.arange(2.0) for number in range(60)})
    assert len(rows_of(source)) == 51
    assert "and 10 more fields" in source._repr_html_()


def test_what_cannot_be_had_stands_there_as_its_error(make_source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_self: DataSourceModule) -> Any:
        raise DataFileError("x", "the file <x> is gone")

    source = make_source(10)
    monkeypatch.setattr(type(source), "element_spec", gone)
    shown = source._repr_html_()
    assert html.escape("DataFileError: the file <x> is gone") in shown
    assert "<summary>plan</summary><pre>" in shown
