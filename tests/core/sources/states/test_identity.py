"""Which data a saved state recognises: configs, files and records tell sources apart that are alike otherwise."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import ordinary_objects as subject
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.config import Count, LocalPath, LocalPattern, SourceConfig
from datarax_core.errors import StateError
from datarax_core.sources import DataSourceModule, StreamingSourceBase, from_sequence
from datarax_memory import MemorySource, MemorySourceConfig


class RowsConfig(SourceConfig):
    type: str = "rows"
    path: LocalPath | None = None
    offset: int = 0
    names: tuple[str, ...] = ()
    cache_size: Count = 4

    may_differ: ClassVar[tuple[str, ...]] = ("cache_size",)


class Rows(DataSourceModule):
    """A third party's source without a fingerprint of its own: bytes of a file, or zeros."""

    config: RowsConfig

    def __len__(self) -> int:
        return 40

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int32)}

    def get_records(self, indices: Any) -> Any:
        if self.config.path is None:
            return {"x": np.zeros(len(indices), np.int32)}
        stored = np.fromfile(self.config.path, np.uint8)
        return {"x": stored[np.asarray(indices)].astype(np.int32)}


def another_class_of_the_same_name() -> type[DataSourceModule]:
    class Rows(Twin):
        pass

    return Rows


Twin = Rows


def rows(**values: Any) -> Rows:
    return Rows(RowsConfig(**values))


def test_a_state_of_a_source_with_another_config_is_refused() -> None:
    state = json.loads(json.dumps(Pipeline(source=rows(offset=3), batch_size=8).get_state()))
    Pipeline(source=rows(offset=3), batch_size=8).set_state(state)
    with pytest.raises(StateError, match=r"config was \{'offset': 3\} and is \{\}; restore it into what saved it"):
        Pipeline(source=rows(), batch_size=8).set_state(state)


def test_fields_that_may_differ_and_defaults_are_no_part_of_a_state() -> None:
    state = rows(cache_size=9, cacheable=True).get_state()
    assert state["fingerprint"]["config"] == {}
    rows().set_state(state)


def test_a_class_may_leave_its_config_out_of_states() -> None:
    class ByContent(Rows):
        config_in_fingerprint = False

    state = ByContent(RowsConfig(offset=3)).get_state()
    assert "config" not in state["fingerprint"]
    ByContent(RowsConfig(offset=4)).set_state(state)


def test_a_source_may_say_in_its_repr_where_its_data_are() -> None:
    class OfAFile(Rows):
        def describe_data(self) -> str:
            return "rows.bin"

    assert repr(rows()).replace("Rows", "OfAFile", 1) != repr(OfAFile(RowsConfig()))
    assert "rows.bin" in repr(OfAFile(RowsConfig()))
    assert "rows.bin" in repr(OfAFile(RowsConfig()).split(a=0.5)["a"])


def test_a_long_value_of_a_config_takes_little_room() -> None:
    long = tuple(f"column {number}" for number in range(1000))
    state = rows(names=long).get_state()
    assert len(json.dumps(state)) < 1024
    rows(names=long).set_state(state)
    with pytest.raises(StateError, match="config was"):
        rows(names=(*long[:-1], "another")).set_state(state)


def test_another_class_of_the_same_name_is_refused() -> None:
    other = another_class_of_the_same_name()
    with pytest.raises(
        StateError, match=r"class was '\S+\.Rows' and is '\S+another_class_of_the_same_name\.<locals>\.Rows'"
    ):
        other(RowsConfig()).set_state(rows().get_state())


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_files_may_move_but_not_change(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    (tmp_path / "a").mkdir()
    content.tofile(tmp_path / "a" / "rows.bin")
    state = rows(path=tmp_path / "a" / "rows.bin").get_state()
    moved = shutil.move(tmp_path / "a", tmp_path / "b")
    rows(path=Path(moved, "rows.bin")).set_state(state)
    content[-1] += 1  # none of the sampled records
    content.tofile(tmp_path / "b" / "rows.bin")
    with pytest.raises(StateError, match=r"content was '1 [0-9a-f]{16}' and is '1 [0-9a-f]{16}'; restore"):
        rows(path=tmp_path / "b" / "rows.bin").set_state(state)


class FolderConfig(SourceConfig):
    type: str = "folder"
    paths: tuple[LocalPath, ...] = ()


class PatternConfig(SourceConfig):
    type: str = "pattern"
    paths: tuple[LocalPattern, ...] = ()


class Folder(StreamingSourceBase):
    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int32)}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - of the base class
        yield from ({"x": np.int32(number)} for number in range(start, 3))


def test_folders_and_patterns_stand_for_their_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "data" / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "sub" / f"{name}.txt").write_text(name)
    folder, pattern = (FolderConfig(paths=(str(tmp_path / path),)) for path in ("data", "data/*/*.txt"))
    state = Folder(folder).get_state()
    (tmp_path / "data" / ".index").write_text("a hidden file")
    Folder(folder).set_state(state)
    Folder(pattern).set_state(state)
    (tmp_path / "data" / "sub" / "two.txt").write_text("TWO")
    for config in (folder, pattern):
        with pytest.raises(StateError, match="content was"):
            Folder(config).set_state(state)


def test_patterns_of_a_config_are_paths(tmp_path: Path) -> None:
    """A state holds the content of the files in place of their paths, so that it fits the same files elsewhere."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("a")
    here, there = (Folder(PatternConfig(paths=(str(tmp_path / folder / "*.txt"),))) for folder in ("here", "there"))
    state = here.get_state()
    there.set_state(state)
    (tmp_path / "there" / "a.txt").write_text("b")
    with pytest.raises(StateError, match="content was"):
        Folder(there.config).set_state(state)


def test_a_state_of_another_list_is_refused() -> None:
    elements = [{"x": np.full(3, number)} for number in range(100)]
    state = Pipeline(source=from_sequence(elements), batch_size=8).get_state()
    Pipeline(source=from_sequence(list(elements)), batch_size=8).set_state(state)
    other = [{"x": element["x"] + 1} for element in elements]
    with pytest.raises(StateError, match=r"records was '[0-9a-f]{16}' and is '[0-9a-f]{16}'; restore"):
        Pipeline(source=from_sequence(other), batch_size=8).set_state(state)


class Augmented:
    """A data set as many are: it draws from the shared generator whenever an element is read."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return {"image": np.random.random(3) > 0.5, "label": index + self.offset}  # noqa: NPY002 - as users write it


def test_a_field_that_differs_with_each_reading_is_no_part_of_a_state() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(2)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    state = from_sequence(Augmented(0)).get_state()
    assert np.random.random(2).tolist() == expected.tolist()  # noqa: NPY002 - the shared generator did not move
    np.random.seed(4)  # noqa: NPY002
    from_sequence(Augmented(0)).set_state(state)
    with pytest.raises(StateError, match="records was"):
        from_sequence(Augmented(1)).set_state(state)


def test_a_record_that_cannot_be_read_is_no_obstacle_for_a_state() -> None:
    class Damaged(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if index == 3:
                raise OSError("a bad sector")
            return super().__getitem__(index)

    state = from_sequence(Damaged([1, 2, 3, 4])).get_state()
    assert "records" not in state["fingerprint"]
    from_sequence([1, 2, 3, 4]).set_state(state)


def test_states_of_an_earlier_release_lack_what_tells_data_apart_and_are_restored() -> None:
    state = Pipeline(source=rows(offset=3), batch_size=8, stages=[Noise(1)], rngs=nnx.Rngs(0)).get_state()
    for name in ("class", "config", "records", "stochastic_stages"):
        del state["fingerprint"][name]
    Pipeline(source=rows(offset=3), batch_size=8, stages=[Noise(1)], rngs=nnx.Rngs(0)).set_state(state)


class Noise:
    stochastic = True

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, batch: Any, keys: Any) -> Any:
        return {"x": batch["x"] + jax.vmap(lambda key: jax.random.normal(key) * self.scale)(keys)}


def test_a_stochastic_stage_that_was_moved_is_refused() -> None:
    def double(batch: Any) -> Any:
        return {"x": batch["x"] * 2}

    def pipeline(*stages: Any) -> Pipeline:
        return Pipeline(source=rows(), batch_size=8, stages=stages, rngs=nnx.Rngs(0))

    noise = Noise(1)
    state = json.loads(json.dumps(pipeline(noise, double).get_state()))
    pipeline(noise).set_state(state)  # stages without random numbers may differ
    with pytest.raises(StateError, match=r"stochastic_stages was \{'0': 'Noise'\} and is \{'1': 'Noise'\}; restore"):
        pipeline(double, noise).set_state(state)


class Node:
    def __init__(self) -> None:
        self.peers: list[Any] = []

    def __repr__(self) -> str:
        return "Node()"


def test_states_of_objects_that_know_each_other_take_no_time() -> None:
    nodes = np.array([Node() for _ in range(30)], object)
    for node in nodes:
        node.peers = nodes.tolist()
    source = MemorySource(MemorySourceConfig(), {"x": nodes})
    source.set_state(json.loads(json.dumps(source.get_state())))


def test_states_of_ordinary_objects_fit_in_another_process() -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(subject.__file__).parent)!r}); import ordinary_objects as subject"
    environment = {"PYTHONHASHSEED": "12345", "PATH": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", f"{code}; subject.print_states()"]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True).stdout  # noqa: S603
    for state, same, other in zip(json.loads(printed), subject.sources(), subject.sources(2.0), strict=True):
        same.set_state(state)
        with pytest.raises(StateError, match=r"(objects|records) was '[0-9a-f]{16}' and is"):
            other.set_state(state)


def test_a_mixture_that_fills_in_nan_restores_its_own_state() -> None:
    from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode  # noqa: PLC0415 - a plugin, of which only this test asks

    def mixture(fill: float) -> Pipeline:
        children = [
            MemorySource(MemorySourceConfig(), {"x": np.ones(4, np.float32), **extra})
            for extra in ({}, {"y": np.ones(4, np.float32)})
        ]
        config = MixDataSourcesConfig(num_sources=2, weights=(0.5, 0.5), fill={"y": fill})
        return Pipeline(source=MixDataSourcesNode(config, children, rngs=nnx.Rngs(0)), batch_size=2)

    state = json.loads(json.dumps(mixture(float("nan")).get_state()))
    mixture(float("nan")).set_state(state)
    with pytest.raises(StateError, match=r"fill was .*nan.* and is .*0\.0"):
        mixture(0.0).set_state(state)
