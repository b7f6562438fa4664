"""The small JSON file beside written data that says how to read it back: ``train.array_record.json``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from datarax_core.errors import ConfigError
from datarax_core.records import ElementSpec, describe
from datarax_core.registry import AnyDecoder, Decoder

from .paths import is_remote, without_shard

_FORMAT: Final = "datarax-arrayrecord"
_VERSION: Final = 1
_ANY_DECODER: Final[TypeAdapter[Decoder]] = TypeAdapter(AnyDecoder)


def sidecar_path(path: str) -> Path:
    """Where the note on a data set lies, or on the one that a file is a shard of."""
    return Path(f"{without_shard(path)}.json")


def sidecar_of(decoder: Decoder, spec: ElementSpec, *, num_records: int, shards: int) -> dict[str, Any]:
    """What is noted of a data set that was written."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "decoder": decoder.model_dump(mode="json"),
        "element_spec": describe(spec),
        "num_records": num_records,
        "shards": shards,
    }


def decoder_beside(files: Sequence[str]) -> Decoder | None:
    """The decoder that the notes beside these files name; None if there are no notes.

    Raises:
        ConfigError: A note is damaged, names no decoder that is installed, or some files have another note than others.
    """
    found: dict[Path, Decoder | None] = {}
    for file in files:
        place = sidecar_path(file)
        if place not in found and not is_remote(file):
            found[place] = _noted(place) if place.exists() else None
    decoders = list(found.values())
    if any(decoder != decoders[0] for decoder in decoders):
        kinds = "; ".join(f"{place}: {decoder.type if decoder else 'no such file'}" for place, decoder in found.items())
        raise ConfigError(f"the files are not all decoded alike ({kinds}); name the decoder: decoder={{'type': ...}}")
    return decoders[0] if decoders else None


def _noted(place: Path) -> Decoder | None:
    try:
        note = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{place} cannot be read: {error}; name the decoder in the config, or remove the file"
        ) from error
    if not isinstance(note, dict) or note.get("format") != _FORMAT:
        return None  # a JSON file of somebody else's
    if note.get("version") != _VERSION:
        raise ConfigError(
            f"{place} has version {note.get('version')!r}, and this datarax-arrayrecord reads version {_VERSION}; upgrade it"
        )
    try:
        return _ANY_DECODER.validate_python(note.get("decoder"))
    except ValidationError as error:
        raise ConfigError(f"{place} names a decoder that cannot be used: {error.errors()[0]['msg']}") from error
