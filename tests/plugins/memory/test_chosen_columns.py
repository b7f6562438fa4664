"""``columns`` of a path: some of its arrays are served, under names of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, build_source
from datarax_memory import MemorySource, MemorySourceConfig


@pytest.fixture(params=["npz", "compressed", "folder"])
def mnist(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a small file like that of Keras: two data sets side by side, and a scalar."""
    arrays: dict[str, Any] = {
        "x_train": np.arange(24, dtype=np.uint8).reshape(6, 4),
        "y_train": np.arange(6),
        "x_test": np.zeros((2, 4), np.uint8),
        "y_test": np.array([7, 8]),
        "version": np.float32(1.5),
    }
    if request.param == "folder":
        (tmp_path / "mnist").mkdir()
        for name, array in arrays.items():
            np.save(tmp_path / "mnist" / f"{name}.npy", array)
        return tmp_path / "mnist"
    save = np.savez if request.param == "npz" else np.savez_compressed
    save(tmp_path / "mnist.npz", **arrays)
    return tmp_path / "mnist.npz"


def memory(path: Path, **options: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(path=path, **options), rngs=nnx.Rngs(0))


def test_arrays_are_picked_by_a_list_or_renamed_by_a_mapping(mnist: Path) -> None:
    assert set(memory(mnist, columns=["x_test", "y_test"]).get_batch(2)) == {"x_test", "y_test"}
    renamed = memory(mnist, columns={"image": "x_train", "label": "y_train"})
    assert {name: np.shape(column) for name, column in renamed.get_batch(6).items()} == {"image": (6, 4), "label": (6,)}
    assert list(renamed.data) == ["image", "label"]
    assert renamed.verify_records(np.arange(6)).records == 6
    assert renamed.copy()[5]["label"] == 5
    assert len(renamed.copy(config=MemorySourceConfig(path=mnist, columns=["x_test"]))) == 2


def test_a_config_file_says_which(mnist: Path) -> None:
    source = {"type": "memory", "path": str(mnist), "columns": {"image": "x_test", "label": "y_test"}}
    (batch,) = Pipeline(source=build_source(source), batch_size=4)
    assert batch["label"].tolist() == [7, 8]


def test_only_the_arrays_that_are_named_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", good=np.arange(3), bad=np.array([{}, None, 1], object))
    assert memory(tmp_path / "x.npz", columns=["good"])[2]["good"] == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            None,
            r"the arrays in .*mnist\S* are no columns of one length: .*'version' is a scalar.*, such as columns: \[x_t",
        ),
        (
            ["x_train", "y_test"],
            r"the arrays in .*mnist\S* .*: 'x_train' has 6, 'y_test' has 2; each record needs a value",
        ),
        (
            ["x_trian"],
            r"columns names 'x_trian', which .*mnist\S* does not have; it has .*'y_train'.*did you mean 'x_train'",
        ),
        ({"image": "pixels"}, r"columns names 'pixels', which .*mnist\S* does not have; it has .*; name one of these"),
        (
            {"image": "x_train", "old": "y_test", "label": "y_train"},
            r"'old' has 2, .*, such as columns: \{image: x_train, label: y_train\}$",
        ),
        ({"v": "version"}, r"the arrays in .*mnist\S* are no columns of one length: 'v' is a scalar"),
    ],
)
def test_arrays_that_make_no_records_are_refused_with_the_file(mnist: Path, columns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        memory(mnist, columns=columns)
