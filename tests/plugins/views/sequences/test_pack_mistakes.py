"""Mistakes in views of packed rows, each with its message."""

from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core.errors import RecordError, SpecError
from datarax_core.records import Ragged
from datarax_core.sources import DataSourceModule, SourceView
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import PackView, PackViewConfig

LENGTHS = [3, 0, 12, 5, 40]


def documents(lengths: Any = LENGTHS, **more: Any) -> MemorySource:
    tokens = Ragged.from_list([np.arange(n, dtype=np.int32) for n in lengths], dtype=np.int32)
    return MemorySource(MemorySourceConfig(), {"tokens": tokens, "id": np.arange(len(lengths)), **more}, name="docs")


def packed(source: Any = None, **options: Any) -> PackView:
    return PackView(PackViewConfig(**{"length": 10, "field": "tokens", **options}), source or documents())


def test_a_document_longer_than_a_row_is_named_with_remedies() -> None:
    text = (
        r"record 2 of MemorySource 'docs' has 12 tokens in field 'tokens' and is longer than a row of 10, and so "
        r"is 1 other of 5; the longest has 40\. Say what to do: too_long: split cuts such documents into pieces, truncate "
        r"keeps the first 10 tokens, drop leaves them out; strategy: concat cuts anywhere"
    )
    with pytest.raises(SpecError, match=text):
        len(packed())
    with pytest.raises(SpecError, match=r"record 4 .* longer than a row of 39\. Say"):
        len(packed(length=39))


def test_documents_of_which_nothing_is_left_are_refused() -> None:
    with pytest.raises(SpecError, match=r"'tokens' of .* is empty in all of 2 records; there is nothing to pack"):
        len(packed(documents([0, 0])))
    with pytest.raises(
        SpecError, match=r"all 2 records of .* are longer than a row of 10, and too_long: drop leaves them out"
    ):
        len(packed(documents([11, 12]), too_long="drop"))
    with pytest.raises(SpecError, match=r"have 5 tokens together, fewer than one row of 10, and last_row: drop"):
        len(packed(documents([2, 3]), strategy="concat", last_row="drop"))


def test_fields_that_cannot_be_packed_are_refused_when_the_view_is_made() -> None:
    images = Ragged.from_list([np.zeros((n + 1, n + 2)) for n in range(5)])
    source = documents(mask=documents().whole_column("tokens"), dense=np.zeros((5, 4)), image=images, text=["a"] * 5)
    with pytest.raises(SpecError, match=r"no field 'token'; did you mean 'tokens'\?"):
        packed(field="token")
    with pytest.raises(
        SpecError, match=r"'dense' .* float64\[4\], and documents .* vary in length; \{type: window\} cuts long"
    ):
        packed(source, field="dense")
    with pytest.raises(
        SpecError, match=r"'id' of MemorySource 'docs' is int64\[\], and documents that are packed vary in length$"
    ):
        packed(source, field=["tokens", "id"])
    with pytest.raises(SpecError, match=r"'image' .* packed are numbers, of which only the first axis varies"):
        packed(source, field="image")
    with pytest.raises(
        SpecError, match="packs the only field of varying length, and it has image, mask, tokens: name the field"
    ):
        packed(source, field=None)
    with pytest.raises(SpecError, match="packs the only field of varying length, and it has none"):
        PackView(PackViewConfig(length=10), MemorySource(MemorySourceConfig(), {"id": np.arange(5)}))
    with pytest.raises(SpecError, match="makes a field 'tokens', and packs one of that name; set segment_field"):
        packed(segment_field="tokens")


def test_padding_that_a_field_does_not_hold_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"pad_value of PackView .*: 0.5 is no value of int32 to pad with, the dtype of field 'tokens'"
    ):
        packed(pad_value=0.5)
    with pytest.raises(
        SpecError, match=r"pad_value of PackView .* names the field 'mask', which is not packed: tokens"
    ):
        packed(pad_value={"mask": 0})


def test_fields_that_are_packed_together_are_of_one_length() -> None:
    mask = Ragged.from_list([np.ones(n, bool) for n in [3, 0, 11, 5, 40]], dtype=bool)
    source = documents(mask=mask)
    text = r"record 2 of MemorySource 'docs': field 'mask' has 11 tokens, and field 'tokens' has 12; fields that are packed"
    with pytest.raises(RecordError, match=text) as caught:
        len(packed(source, field=["tokens", "mask"], too_long="split"))
    assert caught.value.record == 2
    read = Read(PackViewConfig(length=1), source)
    with pytest.raises(RecordError, match=r"record 2 .*'mask' has 11 tokens, and the plan has 12"):
        packed(read, field=["tokens", "mask"], too_long="split").fetch(np.arange(6))


class Read(SourceView):
    """A wrapper without columns or lengths that are known."""

    def whole_column(self, field: str) -> None:  # noqa: ARG002 - it is not known
        return None

    def record_lengths(self, field: str) -> None:  # noqa: ARG002 - it is not known
        return None


@pytest.mark.parametrize("wrapped", [True, False])
def test_lengths_that_the_documents_do_not_have_are_noticed_when_they_are_read(wrapped: bool) -> None:  # noqa: FBT001 - of pytest
    source = documents([3, 4, 5], size=np.array([3, 4, 4]))
    view = packed(Read(PackViewConfig(length=1), source) if wrapped else source, length_field="size")
    text = (
        r"record 2 of .* field 'tokens' has 5 tokens, and the plan has 4; the records, or the lengths that were noted"
    )
    with pytest.raises(RecordError, match=text):
        view.fetch(np.arange(len(view)))


class Stream(DataSourceModule):
    """A stream of no records."""

    def element_spec(self) -> Any:
        return {"tokens": np.zeros(0)}

    def get_batch(self, batch_size: int) -> Any:  # noqa: ARG002 - there are none
        raise StopIteration


def test_a_stream_and_a_mixture_cannot_be_packed() -> None:
    with pytest.raises(NotImplementedError, match="PackView needs records by index, and Stream is a stream"):
        packed(Stream(MemorySourceConfig()))
    mix = MixDataSourcesNode(MixDataSourcesConfig(num_sources=1, weights=[1]), [documents()], rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="PackView has an order of its own, which would lose how often"):
        packed(mix)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"strategy": "concat", "too_long": "split"}, "too_long has no use with strategy='concat'"),
    ({"strategy": "concat", "max_segments": 3}, "max_segments has no use with strategy='concat'"),
    ({"strategy": "concat", "block": 3}, "block has no use with strategy='concat'"),
    ({"last_row": "drop"}, "last_row has no use with strategy='fit'"),
    ({"repack": True, "cacheable": True}, "repack=True makes rows anew in each epoch, and cacheable=True would keep"),
    ({"strategy": "concat", "seed": 1}, "seed has no use without shuffle_documents or repack"),
    ({"shuffle_documents": False, "seed": 1}, "seed has no use without shuffle_documents or repack"),
    ({"segment_field": "a", "position_field": "a"}, "segment_field and position_field are both 'a'"),
    ({"field": ["tokens", "tokens"]}, "the field 'tokens' is named twice"),
    ({"length": 0}, "length"),
    ({"max_segments": 0}, "max_segments"),
    ({"too_long": "cut"}, "'refuse', 'split', 'truncate' or 'drop'"),
]


@pytest.mark.parametrize(("options", "text"), MISTAKES)
def test_options_that_contradict_one_another_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PackViewConfig(**{"length": 10, **options})


def test_a_row_out_of_range_is_refused() -> None:
    view = packed(too_long="split")
    with pytest.raises(IndexError, match="record 99 is out of range: PackView of MemorySource 'docs' has 6 records"):
        view.fetch(np.array([0, 99]))
