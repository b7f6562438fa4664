"""Fixtures of data sets on disk, which are written once for all tests."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tfds_data
import tfds_zoo


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache folder of the indices of TFRecord files during the tests, in place of the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATARAX_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data_dirs(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder with one TFDS data_dir for each format: ``tfrecord`` and ``array_record``."""
    return made_once("tfds", tfds_data.write_all)


@pytest.fixture(params=tfds_data.FORMATS)
def data_dir(data_dirs: Path, request: pytest.FixtureRequest) -> Path:
    """A TFDS data_dir of each format; tests must not change it."""
    return data_dirs / str(request.param)


@pytest.fixture(scope="session")
def zoo(made_once: Callable[[str, Callable[[Path], None]], Path]) -> dict[str, Any]:
    """Records of every type of feature, and the values that TFDS decodes from them; ``tfds_zoo`` writes both."""
    cages: dict[str, Any] = pickle.loads((made_once("tfds_zoo", tfds_zoo.write) / "zoo.pickle").read_bytes())  # noqa: S301
    return cages
