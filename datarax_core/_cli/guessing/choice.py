"""Config of a data file that is given in place of a config: the sources that open it, and the one that is taken."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import Any, Final

from datarax_core.config.files import SUFFIXES
from datarax_core.errors import ConfigError
from datarax_core.extensions.known import FIRST_PARTIES, Known, opening
from datarax_core.files.formats import format_clause
from datarax_core.registry.pipeline_config import PipelineConfig, load_config, parse_config
from datarax_core.registry.sources import SourceRegistry, default_registry

from .ask import answer, read
from .asking import Answer, answers

BATCH_SIZE: Final = 128

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]+:/")
"""Beginning of an address, as a path keeps it."""

_TABLES: Final = (".csv", ".tsv")
_PICTURES: Final = (".jpg", ".jpeg", ".png")
_DEPTH: Final = 3  # split/label/image
_LISTED: Final = 1000  # entries of a folder that are looked at

_OURS: Final = frozenset(row[2] for row in FIRST_PARTIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A config, and how it was found: given as a file, or guessed for a data file.

    ``mapping`` is the config that was guessed, None for one that was given. ``others`` are further sources that open the file,
    and ``silent`` says of plugins that were asked why they gave no answer.
    """

    config: PipelineConfig
    mapping: dict[str, Any] | None = None
    others: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The guessed config as YAML, and a sentence on other sources that open the file; "" for one that was given."""
        if self.mapping is None:
            return ""
        import yaml  # noqa: PLC0415 - only a guess needs it

        text = yaml.safe_dump(self.mapping, sort_keys=False, default_flow_style=None, width=1000).rstrip()
        return "\n".join(["config:", "", *(f"  {line}" for line in text.splitlines()), *self.notes(), ""])

    def notes(self) -> list[str]:
        """Return sentences on the choice."""
        lines = ["", *self.silent] if self.silent else []
        if self.others and self.mapping is not None:
            names = ", ".join(self.others)
            lines += ["", f"opened by {self.mapping['source']['type']!r}; so could {names}: --type NAME chooses one"]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the guess for JSON; nothing for a config that was given."""
        return {} if self.mapping is None else {"guessed": {"config": self.mapping, "others": self.others}}


def opened(path: Path, kind: str | None = None) -> Opened:
    """Return the config in a config file, or for a data file or folder one that opens it.

    Args:
        path: The path that the user gave in place of a config.
        kind: The type of the source that the user chose; None asks all.

    Raises:
        ConfigError: The config is invalid; or there is no such file; or no installed source opens it, or not the chosen one.
        PluginError: The chosen source cannot be used.
    """
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        if kind is not None:
            raise ConfigError(
                f"--type {kind} is for data files; {path} is a config, which names the type of its source"
            )
        return Opened(config=load_config(path))
    if _ADDRESS.match(str(path)):
        raise ConfigError(f"{path}: records at an address are named in a config; see drx describe memory, for example")
    if not path.exists() and not has_magic(path.name):  # a pattern names several files of one data set
        raise ConfigError(
            f"{path}: no such file; a config (.yaml, .yml, .toml or .json), or a file or folder of records, is wanted"
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ConfigError(f"{path} is neither a file nor a folder, but a pipe or a device; copy its records to a file")
    registry = default_registry()
    found = [_chosen(registry, kind, path)] if kind is not None else _asked(registry, path)
    silent = [f"source {one.name!r} was asked, and {one.error}" for one in found if one.error]
    able = [one for one in found if one.fields is not None]
    for number, one in enumerate(able):
        mapping, others = _mapping(registry, one), [repr(other.name) for other in able[number + 1 :]]
        more = f", which {', '.join(others)} could open too: --type NAME chooses one" if others else ""
        try:
            config = parse_config(mapping, registry=registry, origin=f"guess of source {one.name!r} for {path}{more}")
        except ConfigError as wrong:
            if kind is not None:
                raise
            silent.append(f"source {one.name!r} was asked, and its answer is wrong: {wrong}")
            continue
        return Opened(config=config, mapping=mapping, others=others, silent=silent)
    raise ConfigError("; ".join([f"{path}: {_nobody(path, registry, found)}", *silent]))


def _chosen(registry: SourceRegistry, kind: str, path: Path) -> Answer:
    """Return the answer of the source that the user chose; its code is not guarded, since the command needs it."""
    chosen = Answer(kind, **read(registry.get(kind).guess(str(path))))
    if chosen.error:
        raise ConfigError(
            f"{path}: source {kind!r} was asked, and {chosen.error}; write a config, see drx describe {kind}"
        )
    if chosen.fields is None:
        raise ConfigError(
            f"{path}: source {kind!r} does not say that it opens this; write a config, see drx describe {kind}"
        )
    return chosen


def _asked(registry: SourceRegistry, path: Path) -> list[Answer]:
    """Return the answers of sources that may open a path: first those of the table, then third parties, by name."""
    ready = {info.name: info for info in registry.describe() if info.status == "ready"}
    listed = [known.name for known in opening(path) if known.name in ready and ready[known.name].distribution in _OURS]
    theirs = [name for name, info in ready.items() if info.distribution not in _OURS]
    ours = [Answer(name, **answer(registry, name, str(path))) for name in listed]
    return [*ours, *answers(str(path), theirs)]


def _mapping(registry: SourceRegistry, found: Answer) -> dict[str, Any]:
    decides = registry.config_type(found.name).decides_batches
    return {**({} if decides else {"batch_size": BATCH_SIZE}), "source": {"type": found.name, **(found.fields or {})}}


def _nobody(path: Path, registry: SourceRegistry, found: list[Answer]) -> str:
    """Return the message for a path that no installed source opens: what it is, and what would have to be installed."""
    clause = "" if path.is_dir() else format_clause(str(path))
    missing = [known for known in opening(path) if known.name not in registry.names()]
    what = "folder" if path.is_dir() else "file" if path.exists() else "pattern"
    message = f"no installed source opens this {what}{clause}"
    if missing:
        return f"{message}; {_would(missing)}"
    names = ", ".join(one.name for one in found)
    asked = f" (asked: {names})" if names else ""
    remedy = _advice(path) or "write a config that names a source, see drx sources, or write one: drx new"
    return f"{message}{asked}; {remedy}"


def _advice(path: Path) -> str:
    """Return how records are read that no source opens by its path: pictures in folders, tables of text; "" for others."""
    if path.suffix.lower() in _TABLES:
        return (
            "read tables of text by pandas or polars, and serve their columns by MemorySource of datarax-memory, or "
            "write a source: drx new"
        )
    if path.is_dir() and any(found.suffix.lower() in _PICTURES for found in _first_files(path)):
        return (
            "pictures are read by {type: tfds, name: image_folder, data_dir: FOLDER, split: train} of datarax-tfds, from "
            "FOLDER/train/LABEL/*.jpg or png"
        )
    return ""


def _first_files(folder: Path) -> Iterator[Path]:
    """Yield a file of a folder, of the first folder in it, and of the first one in that, if there are such files."""
    for _ in range(_DEPTH):
        try:
            entries = sorted(islice((entry for entry in folder.iterdir() if not entry.name.startswith(".")), _LISTED))
        except OSError:
            return
        yield from [entry for entry in entries if entry.is_file()][:1]
        if not (folders := [entry for entry in entries if entry.is_dir()]):
            return
        folder = folders[0]


def _would(missing: list[Known]) -> str:
    by_home: dict[str, list[str]] = {}
    for known in missing:
        by_home.setdefault(known.distribution, []).append(repr(known.name))
    said = [f"{', '.join(names)} of {home} would: drx install {home}" for home, names in by_home.items()]
    return "; ".join(said)
