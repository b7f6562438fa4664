"""Columns of varying length in memory and in files."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataFileError, Pipeline, Ragged, RecordError, SpecError
from datarax_core.testing import SourceConformance
from datarax_memory import MemorySource, MemorySourceConfig

DOCUMENTS = [np.arange(n, dtype=np.int32) + n for n in (3, 0, 5, 1, 0, 8)]
IMAGES = [np.full((h, w, 3), h * w, np.uint8) for h, w in ((2, 3), (1, 4), (3, 3), (2, 2), (5, 1), (1, 1))]
TOKENS, PICTURES = Ragged.from_list(DOCUMENTS), Ragged.from_list(IMAGES)
LABELS = np.arange(6)


def parts() -> dict[str, np.ndarray]:
    assert PICTURES.shapes is not None
    return {
        "label": LABELS,
        "tokens": TOKENS.values,
        "tokens.offsets": TOKENS.offsets,
        "image": PICTURES.values,
        "image.offsets": PICTURES.offsets,
        "image.shapes": PICTURES.shapes,
    }


def saved(folder: Path, **changed: Any) -> str:
    for name, array in (parts() | changed).items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


def require_records(source: MemorySource) -> None:
    batch = source.fetch_on_host(np.arange(6))
    assert batch["tokens"] == TOKENS
    assert batch["image"] == PICTURES
    assert batch["label"].tolist() == LABELS.tolist()
    assert [element["image"].shape for element in source] == [image.shape for image in IMAGES]


def test_a_folder_has_values_offsets_and_shapes_and_is_mapped(tmp_path: Path) -> None:
    source = MemorySource(MemorySourceConfig(path=saved(tmp_path)))
    require_records(source)
    assert isinstance(source.data["tokens"].values.base, np.memmap)
    assert {name: leaf.shape for name, leaf in source.element_spec().items()} == {
        "image": (None, None, 3), "label": (), "tokens": (None,)
    }  # fmt: skip
    kept = MemorySource(MemorySourceConfig(path=str(tmp_path), cacheable=True))
    require_records(kept)
    assert not isinstance(kept.data["tokens"].values.base, np.memmap)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_has_the_same_parts(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "data.npz", **parts())
    source = MemorySource(MemorySourceConfig(path=str(tmp_path / "data.npz")))
    require_records(source)
    assert source.verify_records(np.arange(6)).records == 6
    assert set(source.columns.stored) == set(parts())  # type: ignore[attr-defined]  # of FileColumns


def test_columns_are_chosen_and_named_by_their_values(tmp_path: Path) -> None:
    chosen = MemorySource(MemorySourceConfig(path=saved(tmp_path), columns={"ids": "tokens", "label": "label"}))
    assert list(chosen.data) == ["ids", "label"]
    assert chosen.data["ids"] == TOKENS
    plain = MemorySource(MemorySourceConfig(path=str(tmp_path), columns=["tokens.offsets"]))
    assert plain.data["tokens.offsets"].tolist() == TOKENS.offsets.tolist()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"tokens.offsets": [0, 3, 2, 8, 9, 9, 17]},
            r"'tokens' in .* does not fit its offsets: offsets go down from 3 to 2",
        ),
        (
            {"tokens.offsets": [0, 3, 3, 8, 9, 9, 18]},
            r"does not fit its offsets: .* past the end .* record 5: to row 18 of 17",
        ),
        (
            {"tokens.offsets": [[0, 3]]},
            r"does not fit its offsets: offsets are integers \(k \+ 1,\).* not int64\[1, 2\]",
        ),
        ({"tokens.offsets": [0, 3, 3]}, r"no columns of one length: .*'tokens' has 2.*; each record needs a value"),
        (
            {"image.shapes": np.ones((6, 2), int)},
            r"'image' in .* does not fit its offsets and shapes: record 0 has 6 rows",
        ),
        ({"image.shapes": np.ones((5, 2), int)}, r"does not fit its offsets and shapes: shapes are integers \(6, d\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changed: Any, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, **{name: np.array(array) for name, array in changed.items()})
    with pytest.raises(DataFileError, match=message):
        MemorySource(MemorySourceConfig(path=path))


def test_damaged_text_names_its_record(tmp_path: Path) -> None:
    words = np.array(["a", "b", "c", "d"])
    words.view(np.uint32)[2] = 0x7FFFFFFF
    np.save(tmp_path / "words.npy", words)
    np.save(tmp_path / "words.offsets.npy", np.array([0, 1, 2, 4]))
    source = MemorySource(MemorySourceConfig(path=str(tmp_path)))
    assert source.fetch_on_host(np.array([1, 0]))["words"].tolist() == [["b"], ["a"]]
    with pytest.raises(RecordError, match=r"record 2 of .* cannot be read: field 'words' is damaged text"):
        source.fetch_on_host(np.array([0, 2]))


def test_data_may_be_ragged_columns_lists_of_arrays_or_elements() -> None:
    given: dict[str, Any] = {"tokens": TOKENS, "image": IMAGES, "label": LABELS}
    require_records(MemorySource(MemorySourceConfig(), given))
    elements = [{name: column[row] for name, column in given.items()} for row in range(6)]
    require_records(MemorySource(MemorySourceConfig(placement="host"), elements))
    lists = MemorySource(MemorySourceConfig(), {"tokens": [document.tolist() for document in DOCUMENTS]})
    assert lists.get_batch(6)["tokens"].tolist() == TOKENS.tolist()
    with pytest.raises(ValueError, match=r"differ in length: 'tokens' has 6, 'label' has 5"):
        MemorySource(MemorySourceConfig(), {"tokens": TOKENS, "label": np.arange(5)})


def test_kept_batches_are_the_same_records() -> None:
    source = MemorySource(MemorySourceConfig(cache_size=2), {"tokens": TOKENS, "label": LABELS})
    for _ in range(2):
        assert source.fetch(np.array([5, 0]))["tokens"].tolist() == [TOKENS[5].tolist(), TOKENS[0].tolist()]


def test_mapped_data_that_is_passed_can_be_read_in(tmp_path: Path) -> None:
    saved(tmp_path)
    mapped = Ragged(np.load(tmp_path / "tokens.npy", mmap_mode="r"), TOKENS.offsets)
    source = MemorySource(MemorySourceConfig(cacheable=True), {"tokens": mapped})
    assert source.data["tokens"] == TOKENS
    assert not isinstance(source.data["tokens"].values.base, np.memmap)


def test_columns_of_arrow_are_taken() -> None:
    arrow = pytest.importorskip("pyarrow")
    lists = [[1, 2], [], [3]]
    columns = {
        "chunks": arrow.chunked_array([arrow.array(lists[:1]), arrow.array(lists[1:])]),
        "boxes": arrow.array([[[1, 2]], [], [[3, 4], [5, 6]]], arrow.list_(arrow.list_(arrow.int16(), 2))),
        "nested": arrow.array([[[1], [2, 3]], [], [[4]]]),
    }
    source = MemorySource(MemorySourceConfig(), columns)
    assert {name: str(leaf.dtype) + str(leaf.shape) for name, leaf in source.element_spec().items()} == {
        "chunks": "int64(None,)", "boxes": "int16(None, 2)", "nested": "object()"
    }  # fmt: skip
    assert source.get_batch(3)["boxes"].tolist() == [[[1, 2]], [], [[3, 4], [5, 6]]]


def test_fixed_size_lists_of_arrow_are_one_array() -> None:
    arrow = pytest.importorskip("pyarrow")
    pairs = arrow.array([[1, 2], [3, 4], [5, 6]], arrow.list_(arrow.int16(), 2))
    columns = {"pairs": pairs[1:], "chunks": arrow.chunked_array([pairs[:1], pairs[2:]])}
    source = MemorySource(MemorySourceConfig(), columns)
    assert {str(leaf.dtype) + str(leaf.shape) for leaf in source.element_spec().values()} == {"int16(2,)"}
    assert {name: column.tolist() for name, column in source.get_batch(2).items()} == {
        "pairs": [[3, 4], [5, 6]], "chunks": [[1, 2], [5, 6]]
    }  # fmt: skip


@pytest.mark.parametrize("values", [[2**60 + 1, None], [True, None], [[1, 2], None], [[1, None], [1, 2]]])
def test_nulls_of_arrow_that_would_change_the_others_are_refused(values: list[Any]) -> None:
    arrow = pytest.importorskip("pyarrow")
    kind = arrow.list_(arrow.int64(), 2) if isinstance(values[0], list) else None
    with pytest.raises(SpecError, match=r"column 'x' of MemorySource cannot be served: 1 of . values of .* are null"):
        MemorySource(MemorySourceConfig(), {"x": arrow.array(values, kind)})


def test_a_config_serves_a_folder(tmp_path: Path) -> None:
    config = {"source": {"type": "memory", "path": saved(tmp_path)}, "batch_size": 4}
    batches = list(Pipeline.from_config(config))
    assert [batch["tokens"].tolist() for batch in batches] == [TOKENS[:4].tolist(), TOKENS[4:].tolist()]


class TestRagged(SourceConformance):
    test_listing_does_not_import_it = test_its_schema_says_what_is_accepted = (
        None  # of the class, see test_conformance.py
    )
    config: ClassVar[Any] = {"type": "memory", "shuffle": True}
    expected_length = 6
    expected_records: ClassVar[Any] = {5: {"tokens": DOCUMENTS[5], "image": IMAGES[5], "label": 5}}
    shown_elsewhere: ClassVar[Any] = dict.fromkeys(
        [
            *("path", "columns", "cache_size", "num_workers", "shard_id"),
            *("cache_dir", "cache_bytes", "storage_options", "local_files_only"),
        ],
        "test_conformance.py",
    )

    def make_source(self, config: Any, seed: int) -> MemorySource:
        return MemorySource(config, {"tokens": TOKENS, "image": PICTURES, "label": LABELS}, rngs=nnx.Rngs(seed))
