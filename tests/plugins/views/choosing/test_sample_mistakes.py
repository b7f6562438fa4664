"""Weights, classes and sources that records cannot be drawn by, each with its message."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule
from datarax_core.errors import ConfigError, DataFileError, SpecError
from datarax_core.pipeline import build_source
from datarax_views import SampleView, SampleViewConfig

GIVEN = np.ones(40)


def sampled(source: DataSourceModule, given: Any = None, **options: Any) -> SampleView:
    return SampleView(SampleViewConfig(**options), source, given, rngs=nnx.Rngs(0))


def changed(record: int, weight: float) -> np.ndarray:
    weights = GIVEN.copy()
    weights[record:] = weight
    return weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (changed(38, -1), "the weights of .*rows.* are negative for 2 of 40 records, the first is record 38 with -1.0"),
        (changed(39, np.nan), "are NaN for 1 of 40 records, the first is record 39"),
        (changed(5, np.inf), "are infinite for 35 of 40 records, the first is record 5"),
        (GIVEN * 0, "are all zero: nothing would be drawn; give one record a weight at least"),
        (GIVEN[:39], r"have shape \[39\], and it has 40 records; give each record one weight"),
        (GIVEN.reshape(2, 20), r"have shape \[2, 20\]"),
    ],
)
def test_weights_that_cannot_be_drawn_by(source: DataSourceModule, weights: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampled(source, weights)


def test_weights_that_are_no_numbers(source: DataSourceModule) -> None:
    with pytest.raises(TypeError, match=r"the weights of .* are <U1, and weights are numbers"):
        sampled(source, ["a"] * 40)


def test_a_field_that_holds_no_weights(source: DataSourceModule) -> None:
    with pytest.raises(SpecError, match=r"no field 'lable'; did you mean 'label'|no field 'lable'.*label"):
        sampled(source, weights="lable")
    with pytest.raises(SpecError, match=r"field 'name' of .* and weights are one number a record"):
        sampled(source, weights="name")
    with pytest.raises(SpecError, match=r"field 'tokens' of .* and weights are one number a record"):
        sampled(source, weights="tokens")
    with pytest.raises(
        ValueError, match=r"the values of field 'score' of .* are NaN for 6 of 40 records, the first is record 3"
    ):
        sampled(source, weights="score")


def test_classes_of_a_field_that_has_none(source: DataSourceModule) -> None:
    with pytest.raises(SpecError, match=r"'score'.*no classes"):
        sampled(source, balanced="score")


def test_a_file_that_holds_no_weights(source: DataSourceModule, tmp_path: Path) -> None:
    path = tmp_path / "weights.npy"
    with pytest.raises(FileNotFoundError, match=r"should hold the weights of .*; a name without .npy is a field"):
        sampled(source, weights=path)
    path.write_bytes(b"weights")
    with pytest.raises(DataFileError, match=r"cannot be read as an .npy file"):
        sampled(source, weights=path)
    np.save(path, np.ones(7))
    with pytest.raises(ValueError, match=r"the weights in '.*weights.npy' of .* have shape \[7\]"):
        sampled(source, weights=path)


def test_weights_from_two_places(source: DataSourceModule) -> None:
    with pytest.raises(ValueError, match="weights and balanced exclude each other"):
        SampleViewConfig(weights="score", balanced="label")
    with pytest.raises(ValueError, match="has its weights twice: as an argument, and from 'label' by its config"):
        sampled(source, GIVEN, balanced="label")


def test_a_stream_has_no_records_to_draw(stream: DataSourceModule) -> None:
    with pytest.raises(NotImplementedError, match=r"needs records by index, and .* is a stream"):
        sampled(stream)


def test_a_config_without_a_source() -> None:
    with pytest.raises(ConfigError, match="sample in a config needs its 'source'"):
        build_source({"type": "sample"})


def test_draws_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        SampleViewConfig(draws=0)


def test_draws_need_a_key_and_a_position(source: DataSourceModule) -> None:
    view = sampled(source)
    with pytest.raises(ValueError, match="draws by a key: pass one"):
        view.record_indices_at(0, 3)
    with pytest.raises(ValueError, match="position -1 is before the start"):
        view.record_indices_at(-1, 3, view.order_key_data())
    with pytest.raises(ValueError, match="needs random numbers: pass rngs"):
        SampleView(SampleViewConfig(), source)


def test_draws_have_no_sequence(source: DataSourceModule) -> None:
    view = sampled(source)
    view.set_random_order(True)
    with pytest.raises(ValueError, match="draws at random; serve MemorySource 'rows' itself"):
        view.set_random_order(False)
    with pytest.raises(NotImplementedError, match="draws records with replacement; see record_indices_at"):
        view.order()
    with pytest.raises(ValueError, match="knows no classes; give its config balanced="):
        view.class_counts_at(3)
    with pytest.raises(ValueError, match="position is at least 0, not -1"):
        view.counts_at(-1)


def test_given_weights_do_not_fit_records_of_another_kind(source: DataSourceModule) -> None:
    view = sampled(source, GIVEN)
    with pytest.raises(
        NotImplementedError, match=r"has a weight for each record of .*rows.*, and .* has other records"
    ):
        view.over_children(lambda parent: SampleView(SampleViewConfig(), parent, rngs=nnx.Rngs(0)))
