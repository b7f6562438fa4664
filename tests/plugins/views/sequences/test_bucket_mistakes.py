"""Mistakes with buckets, each with its text."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_arrayrecord import write
from datarax_core import Pipeline
from datarax_core.config import load_config
from datarax_core.errors import ConfigError, RecordError, SpecError
from datarax_core.records import Ragged
from datarax_core.sources import DataSourceModule, SourceView
from datarax_core.stages import Cache
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import BucketView, BucketViewConfig

LENGTHS = np.arange(40) % 20 + 1
TOKENS = Ragged(np.arange(LENGTHS.sum(), dtype=np.int32), np.cumsum([0, *LENGTHS]))


def documents(name: str | None = None, **fields: Any) -> MemorySource:
    data = {"tokens": TOKENS, "id": np.arange(40), **fields}
    return MemorySource(MemorySourceConfig(shuffle=True), data, rngs=nnx.Rngs(0), name=name)


def bucketed(source: Any = None, **options: Any) -> BucketView:
    given = {"field": "tokens", "bounds": (8, 20), "batch_size": 4, **options}
    return BucketView(BucketViewConfig(**given), documents() if source is None else source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": (20, 8)}, "bounds rise, and 8 comes after 20; sort them"),
        ({"bounds": (8, 8, 20)}, "the bound 8 is given twice; give it once"),
        ({"bounds": None}, "buckets are given by `bounds` or by `buckets`, and neither is given"),
        ({"buckets": 2}, "buckets are given by `bounds` or by `buckets`, and both are given"),
        ({"batch_size": None}, "a batch is given by `batch_size` or by `tokens`, and neither is given"),
        ({"tokens": 100}, "a batch is given by `batch_size` or by `tokens`, and both are given"),
        ({"tokens": 19, "batch_size": None}, "tokens=19 are fewer than 1 x 20, the last bound; give 20 at least"),
        (
            {"tokens": 70, "batch_size": None, "batch_multiple_of": 4},
            "tokens=70 are fewer than 4 x 20, the last bound; give 80 at least",
        ),
        ({"multiple_of": 8}, "multiple_of has no use without buckets"),
        ({"max_length": 8}, "max_length has no use without buckets"),
        ({"batch_multiple_of": 2}, "batch_multiple_of has no use without tokens"),
        ({"bounds": None, "buckets": 2, "too_long": "drop"}, "too_long has no use with buckets alone"),
        (
            {"bounds": None, "buckets": 2, "max_length": 20},
            "max_length=20 is the last bound, and bounds are multiples of 8; take 24",
        ),
        ({"pad": False, "mask_field": "m"}, "mask_field has no use with pad=False"),
        ({"pad": False, "pad_value": 1}, "pad_value has no use with pad=False"),
        ({"mask_field": "m", "lengths_as": "m"}, "mask_field and lengths_as are both 'm'"),
        ({"cacheable": True}, "cacheable=True has no use in buckets"),
        ({"field": ("tokens", "tokens")}, "the field 'tokens' is named twice"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        bucketed(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field": "tokenz"}, "the records of MemorySource have no field 'tokenz'; did you mean 'tokens'?"),
        ({"field": "id"}, "field 'id' of MemorySource is int64[], and buckets are made of records of varying length"),
        ({"field": "text"}, "of varying length; tokenize_bytes makes tokens of text"),
        ({"field": "images"}, "padded are numbers, of which only the first axis varies"),
        ({"pad_value": 0.5}, "pad_value of BucketView of MemorySource: "),
        ({"pad_value": {"x": 1}}, "names the field 'x', which is not padded: tokens"),
        ({"mask_field": "id"}, "mask_field of BucketView of MemorySource is 'id', which the records have already"),
    ],
)
def test_fields_that_cannot_be_padded(options: dict[str, Any], message: str) -> None:
    shapes = np.stack([LENGTHS, LENGTHS], axis=1)
    pixels = Ragged(np.zeros(int((LENGTHS**2).sum()), np.uint8), np.cumsum([0, *LENGTHS**2]), shapes)
    source = documents(text=np.array(["a"] * 40), images=pixels)
    with pytest.raises(SpecError, match=re.escape(message)):
        bucketed(source, **options)


def test_a_document_that_no_bound_holds_is_named() -> None:
    view = bucketed(bounds=(8, 18))
    message = (
        "record 18 of MemorySource has 19 values in field 'tokens' and is longer than the last bound, 18, and so are 3 others "
        "of 40; the longest has 20. Add a bound, or say what to do: too_long='truncate' keeps the first 18 values, 'drop' "
    )
    with pytest.raises(SpecError, match=re.escape(message)):
        Pipeline(source=view, batch_size=None)


def test_buckets_without_a_batch_are_named() -> None:
    with pytest.raises(
        SpecError, match=r"no record of MemorySource is left to be served: all 1 are longer than 8, and"
    ):
        len(bucketed(_one_long(), bounds=(8,), too_long="drop"))
    with pytest.raises(
        SpecError, match=r"the bucket up to 8 of MemorySource has 16 records, fewer than a batch of 75, and rem"
    ):
        len(bucketed(batch_size=None, tokens=600, remainder="drop"))
    with pytest.raises(
        SpecError, match=r"^tokens=20 of a batch are fewer than a record of the bucket up to 24 of .*; give 24 at"
    ):
        len(bucketed(bounds=None, buckets=1, batch_size=None, tokens=20))


def _one_long() -> MemorySource:
    column = Ragged(np.arange(19, dtype=np.int32), np.array([0, 19]))
    return MemorySource(MemorySourceConfig(), {"tokens": column})


def test_one_mask_for_fields_of_other_lengths_is_refused() -> None:
    other = Ragged(TOKENS.values, np.cumsum([0, *LENGTHS[::-1]]))
    view = bucketed(documents(target=other), field=("tokens", "target"), mask_field="m")
    with pytest.raises(
        SpecError, match=r"record 0 of .* has 1 values in field 'tokens' and 20 in field 'target', so that one mask"
    ):
        view.fetch(np.array([0]))


def test_records_that_became_longer_since_they_were_planned_are_named() -> None:
    view = bucketed(documents(n=np.ones(40, np.int64)), length_field="n")
    with pytest.raises(
        RecordError, match=r"^record 15 of .*: field 'tokens' has 16 values, and the plan has 8 at most; the rec"
    ):
        view.fetch(np.array([3, 15]))


def test_a_stream_has_no_buckets() -> None:
    class Ticks(DataSourceModule):
        def element_spec(self) -> Any:
            return {"tokens": jax.ShapeDtypeStruct((None,), np.dtype(np.int32))}

        def get_batch(self, batch_size: int) -> Any:  # noqa: ARG002 - it has none
            raise StopIteration

    with pytest.raises(NotImplementedError, match=r"BucketView needs records by index, and Ticks .*is a stream"):
        bucketed(Ticks(MemorySourceConfig()))


def test_a_mixture_has_no_buckets_and_buckets_no_mixture() -> None:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.5, 0.5))
    mixture = MixDataSourcesNode(config, [documents("a"), documents("b")], rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"serves some more often: its proportions would be lost\. Make the buckets of the sour"
    ):
        bucketed(mixture)
    with pytest.raises(
        ValueError, match=r"reads records by index, and BucketView of .* decides which of them make a batch: make"
    ):
        MixDataSourcesNode(config, [bucketed(), documents()], rngs=nnx.Rngs(0))


def test_parts_and_views_of_buckets_are_refused() -> None:
    view = bucketed()
    message = r"reads records by index, and BucketView of MemorySource decides which of them make a batch"
    with pytest.raises(ValueError, match=rf"^Subset {message}: make the Subset first, and the BucketView of it"):
        view[0:5]
    with pytest.raises(ValueError, match=message):
        view.split(train=0.5, test=0.5)
    with pytest.raises(ValueError, match=message):
        bucketed(view)

    class Reversed(SourceView):
        def parent_indices(self, indices: np.ndarray) -> np.ndarray:
            return indices

    with pytest.raises(ValueError, match=rf"^Reversed {message}"):
        Reversed(MemorySourceConfig(), view)
    with pytest.raises(
        ValueError, match=r"cacheable=True keeps records of one shape, and batches of BucketView of MemorySource d"
    ):
        SourceView(MemorySourceConfig(cacheable=True), view)


def test_records_that_differ_from_epoch_to_epoch_have_no_buckets() -> None:
    class Varying(SourceView):
        varies_by_epoch = True

    with pytest.raises(
        ValueError, match=r"^the records of Varying of MemorySource differ from epoch to epoch, so that their l"
    ):
        bucketed(Varying(MemorySourceConfig(), documents()))


def test_a_shard_is_not_bucketed() -> None:
    source = MemorySource(MemorySourceConfig(num_workers=2, shard_id=1), {"tokens": TOKENS})
    with pytest.raises(
        ValueError, match=r"serves shard 1 of 2, and the batches of buckets are made of all records: leave out"
    ):
        bucketed(source)


def test_compiled_code_refuses_several_shapes_by_name() -> None:
    pipeline = Pipeline(source=bucketed(), batch_size=None)
    with pytest.raises(
        SpecError, match=r"^BucketView of MemorySource makes batches of several shapes, and compiled loops over"
    ):
        pipeline.scan(lambda batch: batch["id"], length=2)
    with pytest.raises(
        SpecError, match=r"^BucketView of MemorySource decides the sizes of its batches, and step\(\) in compil"
    ):
        nnx.jit(lambda pipeline: pipeline.step())(pipeline)
    view = bucketed()
    with pytest.raises(
        NotImplementedError, match=r"^BucketView of MemorySource finds the batch at a position in a table on the"
    ):
        jax.jit(lambda start: view.get_batch_at(start, 4, view.order_key_data()))(0)
    with pytest.raises(NotImplementedError, match=r"^BucketView of MemorySource has records of several shapes"):
        jax.jit(view.fetch_traced)(np.arange(4))


def test_files_are_written_of_the_documents_not_of_their_buckets(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"^batches of BucketView of MemorySource differ in shape, so that its records are not"
    ):
        write(tmp_path / "x.array_record", bucketed())


def test_rules_that_do_not_fit_buckets() -> None:
    with pytest.raises(
        ValueError, match=r"batch_size=3 is given, but BucketView of MemorySource decides the sizes of its batc"
    ):
        Pipeline(source=bucketed(), batch_size=3)
    with pytest.raises(
        ValueError, match=r"and BucketView of MemorySource has short batches within it; leave drop_last out, and"
    ):
        Pipeline(source=bucketed(batch_size=7), batch_size=None, drop_last=True)
    assert len(Pipeline(source=bucketed(batch_size=4, remainder="drop"), batch_size=None, drop_last=True)) == 10
    with pytest.raises(
        ValueError, match=r"^the cache of len keeps results of one shape, and batches of BucketView of MemorySou"
    ):
        Pipeline(source=bucketed(), stages=[Cache(len, 40)], batch_size=None)
    view = bucketed()
    with pytest.raises(ValueError, match=r"is shuffled: pass the key that selects the order"):
        view.record_indices_at(0, 4)
    with pytest.raises(IndexError, match=r"record 40 is out of range: BucketView of MemorySource has 40 records"):
        view.fetch(np.array([40]))


def test_mistakes_in_a_file_are_placed(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "source:\n  type: bucket\n  field: tokens\n  bounds: [20, 8]\n  batch_size: 2\n  source: {type: memory, path: d.npz}\n"
    )
    with pytest.raises(ConfigError, match=r"p.yaml:4: source.bounds: bounds rise, and 8 comes after 20"):
        load_config(tmp_path / "p.yaml")
