"""Errors of mixtures: in the config when it is built, in the children when the mixture is built."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from pydantic import ValidationError

from datarax_core import ConfigError, build_source
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"weights": (0.5, 0.5)}, "num_sources is required: say how many children there are"),
        ({"num_sources": 3, "weights": (0.5, 0.5)}, "weights has 2 entries for 3 children; give each child one"),
        ({"num_sources": 2, "weights": (0.5, -0.5)}, "weight 1 is -0.5; weights are finite numbers from 0"),
        ({"num_sources": 2, "weights": (NAN, 0.5)}, "weight 0 is nan; weights are finite numbers from 0"),
        ({"num_sources": 2, "weights": (0.5, float("inf"))}, "weight 1 is inf; weights are finite numbers from 0"),
        ({"num_sources": 2, "weights": (0, 0)}, r"weights are all zero, \(0.0, 0.0\): nothing would be served"),
        ({"num_sources": 2, "weights": ("0.5", "0.5")}, "Input should be a valid number"),
        ({"num_sources": 0, "weights": ()}, "greater than or equal to 1"),
        ({"num_sources": True, "weights": (1,)}, "should be a valid integer"),
        ({"num_sources": 2, "weights": (1, 1), "temperature": 2.0}, "weights and temperature exclude each other"),
        ({"num_sources": 2, "temperature": 0.0}, "greater than 0"),
        ({"num_sources": 2, "temperature": NAN}, "finite number"),
        ({"num_sources": 2, "weights": (1, 1), "names": ("a",)}, "names has 1 entries for 2 children"),
        ({"num_sources": 2, "weights": (1, 1), "names": ("a", "a")}, "two children are called 'a'"),
        (
            {"num_sources": 2, "weights": {"a": 1}, "names": ("a", "b")},
            "weights and the names of the children differ in 'b'",
        ),
        (
            {"num_sources": 2, "weights": (1, 1), "at_end": {"a": "drop"}},
            "at_end is a mapping by name, but the children",
        ),
        ({"num_sources": 2, "weights": (1, 1), "at_end": ("drop",)}, "at_end has 1 entries for 2 children"),
        ({"num_sources": 2, "weights": (1, 1), "at_end": 0}, "greater than or equal to 1"),
        ({"num_sources": 2, "weights": (1, 1), "at_end": "stop"}, "at_end"),
        ({"num_sources": 2, "weights": (1, 1), "stop": "never"}, "stop"),
        ({"num_sources": 2, "weights": (1, 1), "sampling": "random"}, "sampling"),
        (
            {"num_sources": 2, "weights": (1, 1), "sampling": "categorical", "stop": "all_seen"},
            "stop='all_seen' has no use with sampling='categorical', which draws with replacement",
        ),
        (
            {"num_sources": 2, "weights": (1, 1), "sampling": "categorical", "at_end": "drop"},
            "at_end='drop' has no use with sampling='categorical'",
        ),
        (
            {"num_sources": 2, "weights": (1, 1), "fill": {"s": 0}, "source_field": "s"},
            "source_field='s' is a field that fill",
        ),
        ({"num_sources": 2, "weights": (1, 1), "weight": 1}, "unknown field 'weight'; did you mean 'weights'"),
        (
            {"num_sources": 3, "weights": (1,), "sources": [{"type": "memory", "path": "x.npz"}]},
            "num_sources=3 differs from the 1 sources; leave num_sources out",
        ),
        (
            {"weights": (1,), "names": ("b",), "sources": {"a": {"type": "memory", "path": "x.npz"}}},
            "sources is a mapping, whose keys are the names of the children; leave `names` out",
        ),
        ({"weights": (), "sources": []}, "at least 1 item"),
    ],
)
def test_a_config_that_cannot_work_is_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        MixDataSourcesConfig(**fields)


def empty() -> MemorySource:
    return MemorySource(MemorySourceConfig(), {"id": np.zeros(0, np.int32), "x": np.zeros((0, 2), np.float32)})


def test_children_that_cannot_be_mixed_are_refused(child: Any, mix: Any) -> None:
    config = MixDataSourcesConfig(num_sources=2, weights=(1, 1))

    def refuses(match: str, sources: Any, error: type[Exception] = ValueError, config: Any = config) -> None:
        with pytest.raises(error, match=match):
            MixDataSourcesNode(config, sources, rngs=nnx.Rngs(0))

    refuses("MixDataSourcesNode was given no sources; it needs one at least", [])
    refuses("was given 1 sources, and its config says num_sources=2", [child(0, 5)])
    refuses("child 1 of MixDataSourcesNode is no source, but 'web'", [child(0, 5), "web"], TypeError)
    refuses("mixes several sources, and was given one, MemorySource, which has no parts", child(0, 5), TypeError)
    refuses("mixes a list of sources, or a mapping of them by name, not 'x'", "x", TypeError)
    refuses("child '1' of MixDataSourcesNode is empty, and has a weight", [child(0, 5), empty()])
    refuses("needs a MixDataSourcesConfig, not", [child(0, 5)], TypeError, config=MemorySourceConfig())
    stream = child(0, 5, kind="stream")
    refuses("was given one stream twice", [stream, stream])
    named = config.with_names(["a", "b"])
    refuses(
        "the children are called 'a', 'b' in the config, and 'b', 'a' where they are given",
        {"b": 1, "a": 2},
        config=named,
    )
    assert len(mix([child(0, 5), empty()], (1, 0))) == 5


def test_a_missing_key_is_refused(child: Any, mix: Any) -> None:
    config = MixDataSourcesConfig(num_sources=1, weights=(1,))
    with pytest.raises(ValueError, match=r"is stochastic and needs random numbers: pass rngs=nnx.Rngs\(mix=0\)"):
        MixDataSourcesNode(config, [child(0, 5)])
    made = mix([child(0, 5), child(1, 5)])
    for call in (lambda: made.get_batch_at(0, 5), lambda: made.record_indices_at(0, 5)):
        with pytest.raises(
            ValueError, match=r"draws the orders of its children from a key: pass one, such as jax.random.key"
        ):
            call()
    with pytest.raises(TypeError, match="a key is one PRNG key"):
        made.get_batch_at(0, 5, 7)


@pytest.mark.parametrize(
    ("options", "kinds", "match"),
    [
        ({"sampling": "categorical"}, ("stream", "host"), "draws records at random, and child '0' of .* is a stream"),
        (
            {"at_end": "drop"},
            ("no length", "host"),
            "at_end has to know when child '0' of .* ends, which is a stream without",
        ),
        ({"stop": "all_seen"}, ("no length", "host"), "stop='all_seen' has to know when child '0'"),
        (
            {"temperature": 2.0},
            ("no length", "host"),
            "temperature makes weights of the children's lengths, and child '0'",
        ),
        (
            {"cacheable": True},
            ("device", "device"),
            "cacheable=True has no use in MixDataSourcesNode, whose records are not read by the host",
        ),
        (
            {"cacheable": True},
            ("stream", "host"),
            "cacheable=True has no use in MixDataSourcesNode, whose records are not read by the host",
        ),
    ],
)
def test_children_that_an_option_excludes_are_refused(
    child: Any, mix: Any, options: dict[str, Any], kinds: tuple[str, str], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        mix([child(n, 9, kind=kind) for n, kind in enumerate(kinds)], **options)


def test_a_shard_cannot_be_drawn_from(mix: Any) -> None:
    shard = MemorySource(MemorySourceConfig(num_workers=2, shard_id=0), {"id": np.arange(9)})
    with pytest.raises(ValueError, match="child '0' of MixDataSourcesNode serves a part of them only"):
        mix([shard], sampling="categorical")
    assert len(mix([shard])) == 5


def test_a_temperature_for_empty_children_is_refused(mix: Any) -> None:
    with pytest.raises(ValueError, match="all children of MixDataSourcesNode are empty"):
        mix([empty()], temperature=1.0)


def test_slicing_and_shuffling_a_mixture_point_to_the_children(child: Any, mix: Any) -> None:
    made = mix([child(0, 9), child(1, 9)], name="web")
    with pytest.raises(NotImplementedError, match=r"a slice of MixDataSourcesNode 'web' would have other proportions"):
        made[2:5]
    with pytest.raises(ValueError, match=r"the order of MixDataSourcesNode 'web' is that of its children"):
        made.set_random_order(False)
    made.set_random_order(True)
    with pytest.raises(NotImplementedError, match="has no order of its own, but its children's"):
        made.order()
    with pytest.raises(TypeError, match="part 'test' of MixDataSourcesNode 'web' is 5 records, which its children"):
        made.split(test=5)


@pytest.mark.parametrize(
    ("start", "error", "match"),
    [(-1, ValueError, "position -1 is before the start"), (1.5, TypeError, "a position is an integer, not 1.5")],
)
def test_positions_count_from_0(child: Any, mix: Any, start: Any, error: type[Exception], match: str) -> None:
    made = mix([child(0, 9), child(1, 9)])
    with pytest.raises(error, match=match):
        made.get_batch_at(start, 5, made.order_key_data())


def test_under_jit_positions_have_32_bits(child: Any, mix: Any) -> None:
    made = mix([child(0, 9), child(1, 9)])
    with pytest.raises(ValueError, match="position 4294967296 is past what 32-bit positions under jit can address"):
        jax.jit(lambda key: made.record_indices_at(2**32, 5, key))(made.order_key_data())
    with pytest.raises(TypeError, match="a position is an integer, not float32"):
        jax.jit(lambda start: made.record_indices_at(start, 5, made.order_key_data()))(np.float32(1))


def test_an_error_names_the_child(child: Any, mix: Any) -> None:
    class Broken(type(child(0, 9, kind="host"))):  # type: ignore[misc]
        def get_records(self, indices: Any) -> Any:  # noqa: ARG002 - the signature of the protocol
            raise OSError("the disk is gone")

    broken = Broken(child(0, 9, kind="host").config, 0, 9, rngs=nnx.Rngs(0))
    made = mix({"good": child(1, 9), "bad": broken}, name="web")
    with pytest.raises(OSError, match="the disk is gone") as caught:
        made.get_batch(6)
    assert "while MixDataSourcesNode 'web' read 3 records of its child 'bad'" in caught.value.__notes__


def test_a_config_without_sources_builds_nothing() -> None:
    with pytest.raises(ConfigError, match="a mix in a config needs its 'sources'"):
        build_source({"type": "mix", "num_sources": 1, "weights": [1]})
    with pytest.raises(TypeError, match="is built from a MixDataSourcesConfig, not"):
        MixDataSourcesNode.from_config(MemorySourceConfig(), build_source)
