"""What acme-sensors promises its users."""

import json

import jax
import numpy as np
import pytest
from acme_sensors import audit
from acme_sensors.packet import Packet
from datarax_core import DecoderRegistry, Pipeline, RecordError, StageRegistry, build_source, load_config
from datarax_core.errors import ConfigError
from flax import nnx

SOURCE = {"type": "acme_sensors", "count": 10}


@pytest.fixture(autouse=True)
def _no_lines():
    audit.LINES.clear()


def pipeline(*stages, **options):
    config = {"seed": 0, "batch_size": 4, "source": SOURCE, "stages": list(stages), **options}
    return Pipeline.from_config(config)


def test_names_are_installed():
    assert {"acme_standardize", "acme_jitter", "acme_redact"} <= set(StageRegistry.from_environment().names())
    assert "acme_packet" in DecoderRegistry.from_environment().names()


def test_readings_are_standardized():
    (first, *_) = pipeline({"type": "acme_standardize", "field": "readings", "mean": 1.0})
    assert np.asarray(first["readings"][0]).tolist() == [-1, 0, 1, 2]
    assert list(first["sensor"]) == ["s0", "s1", "s2", "s3"]


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="reading"):
        pipeline({"type": "acme_standardize", "field": "reading"})


def test_the_scale_is_a_parameter():
    over = pipeline({"type": "acme_standardize", "field": "readings"})
    (scaled,) = over.stages
    assert isinstance(scaled, nnx.Module)
    scaled.scale[...] = 2.0
    assert np.asarray(over.step()["readings"][1]).tolist() == [0.5, 1, 1.5, 2]


def test_jitter_is_keyed_by_record():
    jitter = {"type": "acme_jitter", "field": "readings"}
    fours = np.concatenate([np.asarray(batch["readings"]) for batch in pipeline(jitter)])
    fives = np.concatenate([np.asarray(batch["readings"]) for batch in pipeline(jitter, batch_size=5)])
    assert np.allclose(fours, fives)
    assert np.concatenate([np.asarray(batch["index"]) for batch in pipeline(jitter)]).tolist() == list(range(10))


def test_names_of_sensors_are_left_out():
    for batch in pipeline({"type": "acme_redact"}):
        assert set(batch) == {"readings"}


def test_configs_in_files(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"batch_size": 4, "source": SOURCE, "stages": [{"type": "acme_redact"}]}))
    assert load_config(path).source.count == 10
    path.write_text(json.dumps({"batch_size": 4, "source": {**SOURCE, "counts": 1}}))
    with pytest.raises(ConfigError, match="count"):
        load_config(path)


def test_packets_go_there_and_back():
    batch = {"id": np.asarray([1, 2], np.int32), "readings": np.arange(8, dtype=np.float32).reshape(2, 4)}
    decoder = Packet()
    again = decoder.decode(decoder.encode(batch), decoder.element_spec())
    assert jax.tree.all(jax.tree.map(np.array_equal, again, batch))
    with pytest.raises(ValueError, match="a packet has 20 bytes, and this one has 3"):
        decoder.decode([b"abc"], decoder.element_spec())


def test_a_run_is_audited():
    for _ in pipeline():
        pass
    assert audit.LINES == [
        "opened Sensors 'audited' at 0",
        "batch 0 of 4 at 0",
        "batch 1 of 4 at 4",
        "batch 2 of 2 at 8",
        "epoch 0 after 10 records",
        "closed at 10",
    ]


def test_lost_packets_are_told_and_some_are_refused():
    source = build_source({**SOURCE, "lost": 3})
    assert source.get_batch(5)["sensor"].tolist() == ["s0", "s1", "s2", "s4", "s4"]
    assert source.get_operation_stats() == {"applied_count": 1, "skipped_count": 1}
    assert audit.LINES == ["record 3: packet 3 is lost"]
    with pytest.raises(RecordError, match="packet 7 is lost"):
        build_source({**SOURCE, "lost": 7}).get_batch(10)


def test_a_state_goes_on():
    first = pipeline({"type": "acme_jitter", "field": "readings"})
    first.step()
    second = pipeline({"type": "acme_jitter", "field": "readings"})
    second.set_state(json.loads(json.dumps(first.get_state())))
    assert np.allclose(second.step()["readings"], first.step()["readings"])
