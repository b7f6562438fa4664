"""Modules: config, name, random streams, state, statistics and counts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import (
    DataraxModule,
    DataraxModuleConfig,
    DataSourceModule,
    SourceConfigBase,
    StateError,
    StreamingSourceBase,
    StructuralConfig,
    StructuralModule,
    from_sequence,
)
from datarax_core.modules.module import draw_key_data


class Scaler(StructuralModule):
    """A module with variables and a constructor argument of its own."""

    def __init__(
        self, config: StructuralConfig, factor: float, *, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self.factor = nnx.Param(jnp.full((2,), factor))
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def process(self, input: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002 - the name that users know
        self.calls[...] += 1
        return input * self.factor[0] + sum(args) + sum(kwargs.values())

    def constructor_data(self) -> tuple[Any, ...]:
        return (float(self.factor[0]),)


def stochastic(stream_name: str = "noise") -> StructuralConfig:
    return StructuralConfig(stochastic=True, stream_name=stream_name)


# -- building -----------------------------------------------------------------------------------------------------------


def test_a_module_keeps_its_arguments() -> None:
    config, rngs = stochastic(), nnx.Rngs(0)
    module = Scaler(config, 2.0, rngs=rngs, name="scale")
    assert (module.config, module.rngs, module.name, module.title) == (config, rngs, "scale", "Scaler 'scale'")
    assert (module.stochastic, module.stream_name) == (True, "noise")
    assert Scaler(StructuralConfig(), 2.0).title == "Scaler"


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: DataraxModule({}),
            TypeError,
            r"^DataraxModule needs a config derived from DataraxModuleConfig, not \{\}$",
        ),
        (
            lambda: DataraxModule(DataraxModuleConfig),
            TypeError,
            r"DataraxModuleConfig, not <class .*DataraxModuleConfig'>$",
        ),
        (
            lambda: Scaler(DataraxModuleConfig(), 1.0),
            TypeError,
            r"^Scaler needs a config derived from StructuralConfig, not",
        ),
        (
            lambda: Scaler(stochastic(), 1.0, name="aug"),
            ValueError,
            r"^Scaler 'aug' is stochastic and needs random numbers: pass rngs=nnx.Rngs\(noise=0\), or any seed$",
        ),
        (
            lambda: Scaler(stochastic(), 1.0, rngs=nnx.Rngs(params=0)),
            ValueError,
            r"^Scaler draws from the random stream 'noise', which its rngs do not have; pass rngs=nnx.Rngs\(noise=0\), or",
        ),
    ],
)
def test_a_module_that_cannot_work_is_refused(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_process_is_defined_by_a_subclass() -> None:
    message = r"^StructuralModule does not define process\(\); write it, or call what it does define$"
    for call in (StructuralModule(StructuralConfig()).process, StructuralModule(StructuralConfig())):
        with pytest.raises(NotImplementedError, match=message):
            call(1)


def test_calling_a_module_calls_process() -> None:
    assert float(Scaler(StructuralConfig(), 3.0)(2.0, 1.0, extra=0.5)) == 7.5


# -- random streams -----------------------------------------------------------------------------------------------------


def test_only_a_stochastic_module_requires_a_stream() -> None:
    assert DataraxModule(DataraxModuleConfig()).requires_rng_streams() is None
    assert Scaler(StructuralConfig(), 1.0).requires_rng_streams() is None
    assert Scaler(stochastic(), 1.0, rngs=nnx.Rngs(noise=0)).requires_rng_streams() == ["noise"]


def test_missing_streams_are_named() -> None:
    module = Scaler(StructuralConfig(), 1.0, rngs=nnx.Rngs(noise=0), name="aug")
    module.ensure_rng_streams(["noise"])
    with pytest.raises(
        ValueError, match=r"Scaler 'aug' draws from the random stream 'a', 'b', which its rngs do not have"
    ):
        module.ensure_rng_streams(["a", "noise", "b"])
    Scaler(StructuralConfig(), 1.0, rngs=nnx.Rngs(0)).ensure_rng_streams(["a", "b"])
    with pytest.raises(ValueError, match=r"the random stream 'a', which .* or rngs=nnx.Rngs\(0\) for all streams"):
        Scaler(StructuralConfig(), 1.0).ensure_rng_streams(["a"])


# -- state and copies ---------------------------------------------------------------------------------------------------


def test_a_state_restores_every_variable_and_stream() -> None:
    module = Scaler(stochastic(), 2.0, rngs=nnx.Rngs(noise=5))
    module(1.0)
    assert module.rngs is not None
    module.rngs.noise()
    state = module.get_state()
    drawn = module.rngs.noise()
    other = Scaler(stochastic(), 9.0, rngs=nnx.Rngs(noise=6))
    other.set_state(state)
    assert other.rngs is not None
    assert (int(other.calls[...]), other.factor[...].tolist()) == (1, [2.0, 2.0])
    assert other.rngs.noise() == drawn


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda _: None, TypeError, r"^the state of Scaler 'aug' is a dict, as get_state\(\) gives it, not NoneType$"),
        (lambda _: {}, StateError, r"^the state does not fit Scaler: 'calls' is missing, 'factor' is missing$"),
        (lambda s: s | {"more": 1, "odd": 2}, StateError, "'more' is unknown, 'odd' is unknown"),
        (lambda s: s | {"factor": [1.0]}, StateError, r"'factor' has shape \[1\] where \[2\] is expected"),
        (lambda s: s | {"calls": "many"}, StateError, "'calls' cannot be 'many'"),
        (lambda s: s | {"calls": 2**40}, StateError, "'calls' cannot be 1099511627776"),
        (lambda s: s | {"factor": [[1.0], 2.0]}, StateError, r"'factor' cannot be \[\[1\.0\], 2\.0\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    change: Callable[[dict[str, Any]], Any], kind: type[Exception], message: str
) -> None:
    module = Scaler(StructuralConfig(), 2.0, name="aug")
    state = Scaler(StructuralConfig(), 4.0).get_state()
    with pytest.raises(kind, match=message):
        module.set_state(change(state))
    assert module.factor[...].tolist() == [2.0, 2.0]


def test_a_clone_is_independent() -> None:
    module = Scaler(StructuralConfig(), 2.0, name="scale")
    module.set_statistics({"mean": 1})
    twin = module.clone()
    twin(1.0)
    twin.set_statistics({"mean": 2})
    assert (int(module.calls[...]), int(twin.calls[...])) == (0, 1)
    assert (module.get_statistics(), twin.get_statistics()) == ({"mean": 1}, {"mean": 2})
    assert (twin.name, twin.config) == (module.name, module.config)


def test_a_copy_is_built_anew_with_the_given_arguments() -> None:
    module = Scaler(StructuralConfig(), 2.0, name="scale")
    module(1.0)
    twin, other = module.copy(), module.copy(config=stochastic(), rngs=nnx.Rngs(0), name="other")
    assert (int(twin.calls[...]), twin.factor[...].tolist(), twin.title) == (0, [2.0, 2.0], "Scaler 'scale'")
    assert (other.stream_name, other.title) == ("noise", "Scaler 'other'")


# -- statistics ---------------------------------------------------------------------------------------------------------


def mean(data: Any) -> dict[str, float]:
    return {"mean": float(np.mean(data))}


def test_statistics_are_computed_remembered_and_forgotten() -> None:
    module = DataraxModule(DataraxModuleConfig(batch_stats_fn=mean))
    assert module.get_statistics() is None
    assert module.compute_statistics([1, 2, 3]) == {"mean": 2.0} == module.get_statistics()
    module.set_statistics({"mean": 9.0})
    assert module.get_statistics() == {"mean": 9.0}
    module.reset_statistics()
    assert module.get_statistics() is None


def test_precomputed_statistics_hold_until_they_are_reset() -> None:
    module = DataraxModule(DataraxModuleConfig(precomputed_stats={"mean": 5.0}))
    module.set_statistics({"mean": 1.0})
    assert module.get_statistics() == {"mean": 5.0}
    module.reset_statistics()
    assert module.get_statistics() is None
    module.set_statistics({"mean": 2.0})
    assert module.get_statistics() == {"mean": 2.0}


def test_statistics_cannot_be_computed_without_a_function() -> None:
    with pytest.raises(
        ValueError, match=r"^DataraxModule has no batch_stats_fn to compute statistics with; set it in its"
    ):
        DataraxModule(DataraxModuleConfig()).compute_statistics([1])


def test_operation_counts_start_at_0_and_can_be_reset(make_source: Callable[..., Any]) -> None:
    source = make_source(10)
    assert source.get_operation_stats() == {"applied_count": 0, "skipped_count": 0}
    source.get_batch(4)
    source.get_batch(4)
    assert source.get_operation_stats() == {"applied_count": 2, "skipped_count": 0}
    source.reset_operation_stats()
    assert source.get_operation_stats() == {"applied_count": 0, "skipped_count": 0}


def test_new_statistics_do_not_compile_jitted_code_again() -> None:
    traces = []

    @nnx.jit
    def apply(module: Scaler) -> Any:
        traces.append("trace")
        return module(1.0)

    module = Scaler(StructuralConfig(), 2.0)
    for count in range(3):
        module.set_statistics({"count": count})
        apply(module)
    assert (len(traces), int(module.calls[...])) == (1, 3)


# -- repr, and copies of sources of data ---------------------------------------------------------------------------------


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
    assert repr(shuffled) == f"{shuffled}" == "EagerSourceBase 'train'(5,000 records shuffled)"
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


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_drawn_key_is_that_of_the_stream_itself(seed: int, impl: str) -> None:
    theirs, ours = (nnx.Rngs(jax.random.key(seed, impl=impl)) for _ in range(2))
    for _ in range(3):
        expected = np.asarray(jax.random.key_data(theirs.shuffle()))
        np.testing.assert_array_equal(draw_key_data(ours["shuffle"]), expected)
        assert ours.default.count[...] == theirs.default.count[...]
        assert ours.default.count[...].dtype == np.uint32
