"""The lines of metrics, and the data sets of a catalogue."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from acme_watch import Catalogue, Metrics
from datarax_core import (
    ConfigError,
    DataSourceModule,
    Hooks,
    Pipeline,
    RecordError,
    SourceConfig,
    SourceRegistry,
    build_source,
    default_hooks,
    from_sequence,
    record_failed,
)
from datarax_core.config import LocalPath
from datarax_core.registry import default_registry

SOURCE = [{"x": np.int32(number)} for number in range(10)]


class NumbersConfig(SourceConfig):
    type: Literal["watched_numbers"] = "watched_numbers"
    path: LocalPath


class Numbers(DataSourceModule):
    """Numbers of a text file."""

    config_class = NumbersConfig
    config: NumbersConfig

    def __len__(self) -> int:
        return len(Path(self.config.path).read_text().split())

    def element_spec(self) -> Any:
        return from_sequence(SOURCE).element_spec()

    def get_records(self, indices: Any) -> Any:
        return {"x": np.array(Path(self.config.path).read_text().split(), np.int32)[indices]}


@pytest.fixture(scope="module", autouse=True)
def _numbers_are_registered() -> None:
    default_registry().register(Numbers)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_written_for_each_epoch_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with default_hooks().registered(Metrics(str(path))):
        list(Pipeline(source=from_sequence(SOURCE, name="train"), batch_size=5, num_epochs=2))
    own = [
        line for line in lines(path) if "'train'" in line["source"]
    ]  # pipelines of other tests may be closed meanwhile
    written = [(line["event"], line.get("epoch"), line.get("records"), line.get("position")) for line in own]
    assert written == [("epoch", 0, 10, None), ("epoch", 1, 20, None), ("closed", None, None, 20)]


def test_a_record_that_is_replaced_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with default_hooks().registered(Metrics(str(path))):
        record_failed(from_sequence(SOURCE), 3, RecordError("record 3 is bad", record=3, reason="bad", path="a.bin"))
    (line,) = lines(path)
    assert (line["record"], line["path"], line["reason"]) == (3, "a.bin", "bad")


def test_a_line_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    pipeline = Pipeline(source=from_sequence(SOURCE), batch_size=10)
    with (
        default_hooks().registered(Metrics(str(tmp_path))),
        pytest.warns(UserWarning, match="a line of metrics was lost"),
    ):
        assert len(list(pipeline)) == 1


def test_without_a_path_nothing_is_written() -> None:
    with default_hooks().registered(Metrics(None)):
        list(Pipeline(source=from_sequence(SOURCE), batch_size=10))


def written_catalogue(folder: Path, entries: Any) -> Catalogue:
    (folder / "catalogue.json").write_text(json.dumps(entries))
    return Catalogue(str(folder / "catalogue.json"))


def test_a_name_of_the_catalogue_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "primes.txt").write_text("2 3 5 7")
    registry = SourceRegistry()
    registry.register(Numbers)
    Hooks(registry).register(written_catalogue(tmp_path, {"primes": {"type": "watched_numbers", "path": "primes.txt"}}))
    assert registry.names() == ["primes", "watched_numbers"]
    source = build_source({"type": "primes"}, registry)
    assert isinstance(source, Numbers)
    assert source.get_batch(4)["x"].tolist() == [2, 3, 5, 7]


def test_a_name_takes_no_options(tmp_path: Path) -> None:
    registry = SourceRegistry()
    Hooks(registry).register(written_catalogue(tmp_path, {"primes": {"type": "watched_numbers", "path": "primes.txt"}}))
    with pytest.raises(ConfigError, match=r"cacheable: 'primes' is a whole config; set options in .*catalogue.json"):
        build_source({"type": "primes", "cacheable": True}, registry)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", r"ACME_CATALOGUE names .*catalogue.json, which cannot be read: "), ("[]", "is no catalogue, a JSON object")],
)
def test_a_catalogue_that_is_none_is_named(tmp_path: Path, content: str, message: str) -> None:
    catalogue = written_catalogue(tmp_path, {})
    (tmp_path / "catalogue.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        Hooks(SourceRegistry()).register(catalogue)
