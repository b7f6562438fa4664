"""The repr of sources, one line that says what is served; and copies of sources whose constructors take data."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, SourceConfigBase, StreamingSourceBase, StructuralConfig, from_sequence


class OfData(DataSourceModule):
    """A source whose constructor takes data, by an author who forgot to say so."""

    def __init__(
        self, config: StructuralConfig, data: Any, *, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self._count = len(data)

    def __len__(self) -> int:
        return self._count

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"x": jax.ShapeDtypeStruct((), np.int32)}

    def get_records(self, indices: Any) -> dict[str, Any]:
        return {"x": indices.astype(np.int32)}


class Forward(StreamingSourceBase):
    """A stream without a length."""


class Named(SourceConfigBase):
    type: str = "named"


class Told(OfData):
    def constructor_data(self) -> tuple[Any, ...]:
        return (range(self._count),)


def test_a_source_is_one_line_of_data_records_and_order(make_source: Callable[..., DataSourceModule]) -> None:
    shuffled = make_source(5000, shuffle=True, name="train")
    assert repr(shuffled) == "EagerSourceBase 'train'(5,000 records shuffled)"
    assert repr(shuffled[::2]) == "Subset [0:4999:2] of EagerSourceBase 'train'(2,500 records shuffled)"
    assert repr(make_source(9, shard=(1, 3))).startswith("EagerSourceBase(3 records in sequence, shard 1 of 3")
    assert repr(from_sequence([1, 2, 3])) == "SequenceSource(3 records in sequence)"
    assert repr(Forward(StructuralConfig())) == "Forward(a stream)"
    named = Named(name="mnist", split="test")
    assert repr(OfData(named, range(9))) == "OfData('mnist', split 'test': 9 records in sequence)"
    assert repr(OfData(named, range(9))[:3]) == "Subset [0:3] of OfData('mnist', split 'test': 3 records in sequence)"


def test_a_source_that_is_not_whole_has_the_repr_of_any_object() -> None:
    assert "OfData object at" in repr(OfData.__new__(OfData))


def test_a_copy_of_a_source_of_data_names_the_method_to_write() -> None:
    source = OfData(StructuralConfig(), range(7))
    message = r"^OfData\.copy\(\) cannot call OfData\(.*missing .* 'data'; define constructor_data\(self\) in OfData"
    with pytest.raises(TypeError, match=message):
        source.copy()
    assert len(Told(StructuralConfig(), range(7)).copy(name="again")) == 7
