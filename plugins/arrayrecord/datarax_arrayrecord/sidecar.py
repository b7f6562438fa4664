"""Sidecar file of a data set: a small JSON file that names its decoder, such as ``train.array_record.json``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from datarax_arrayrecord.decoders import DOTTED
from datarax_core.errors import ConfigError
from datarax_core.files import is_remote, without_shard
from datarax_core.records import ElementSpec, describe, nested_fields
from datarax_core.registry import AnyDecoder, Decoder
from datarax_core.storage import RangeReader, redacted

_FORMAT: Final = "datarax-arrayrecord"
_VERSION: Final = 2
"""Since version 2, fields of decoders are nested, and a dot is part of a name; version 1 is written where neither occurs."""

_NESTED_BY_DOTS: Final = ("array", "example", "msgpack", "npz")
"""Decoders whose fields were nested by dots in version 1."""

_ANY_DECODER: Final[TypeAdapter[Decoder]] = TypeAdapter(AnyDecoder)


def sidecar_path(path: str) -> Path:
    """Return the path of the sidecar file of a data set, or of the data set that a file is a shard of."""
    return Path(f"{without_shard(path)}.json")


def sidecar_content(decoder: Decoder, spec: ElementSpec, *, num_records: int, shards: int) -> dict[str, Any]:
    """Return the content of the sidecar file of a data set that was written with this decoder."""
    settings = decoder.model_dump(mode="json")
    fields = decoder.model_dump(mode="json", context=DOTTED).get("fields")
    is_plain = not isinstance(fields, dict) or not any("." in name for name in fields)
    return {
        "format": _FORMAT,
        "version": 1 if is_plain else _VERSION,
        "decoder": settings,
        "element_spec": describe(spec),
        "num_records": num_records,
        "shards": shards,
    }


def decoder_of_files(files: Sequence[str], ranges: RangeReader | None = None) -> Decoder | None:
    """Return the decoder that the sidecar files of these data files name; None if there are no sidecar files.

    Args:
        files: The data files.
        ranges: Reads sidecar files at addresses.

    Raises:
        ConfigError: A sidecar file is damaged, names a decoder that is not installed, or the files have different decoders.
        PermissionError: A sidecar file at an address may not be read, or is not there, where a store does not tell which.
    """
    found: dict[str, Decoder | None] = {}
    for file in files:
        sidecar = f"{without_shard(file)}.json"
        if sidecar not in found:
            content = _content_at(sidecar, ranges or RangeReader()) if is_remote(file) else _content_of(sidecar)
            found[sidecar] = None if content is None else _decoder_in(redacted(sidecar), content)
    decoders = list(found.values())
    if any(decoder != decoders[0] for decoder in decoders):
        listed = "; ".join(
            f"{redacted(path)}: {decoder.type if decoder else 'no such file'}" for path, decoder in found.items()
        )
        raise ConfigError(f"the files are not all decoded alike ({listed}); name the decoder: decoder={{'type': ...}}")
    return decoders[0] if decoders else None


def _content_of(sidecar: str) -> bytes | None:
    """Return the content of a sidecar file; None if there is none."""
    if not Path(sidecar).exists():
        return None
    try:
        return Path(sidecar).read_bytes()
    except OSError as error:
        raise _unreadable(sidecar, error) from error


def _content_at(sidecar: str, ranges: RangeReader) -> bytes | None:
    """Return the content of a sidecar file at an address; None if there is none."""
    try:
        return ranges.content(sidecar)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PermissionError(
            f"{error}; it would name the decoder of the records; name that in the config: decoder={{'type': ...}}"
        ) from error


def _decoder_in(sidecar: str, text: bytes) -> Decoder | None:
    """Return the decoder that a sidecar file names; None if the file is not one of ours."""
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise _unreadable(sidecar, error) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    if content.get("version") not in (1, _VERSION):
        raise ConfigError(
            f"{sidecar} has version {content.get('version')!r}, and this datarax-arrayrecord reads versions up to {_VERSION}; "
            "upgrade it"
        )
    settings = content.get("decoder")
    if content["version"] == 1 and isinstance(settings, dict) and settings.get("type") in _NESTED_BY_DOTS:
        fields = settings.get("fields")
        settings = {**settings, "fields": nested_fields(fields)} if isinstance(fields, dict) else settings
    try:
        return _ANY_DECODER.validate_python(settings)
    except ValidationError as error:
        raise ConfigError(f"{sidecar} names a decoder that cannot be used: {error.errors()[0]['msg']}") from error


def _unreadable(sidecar: str, error: Exception) -> ConfigError:
    return ConfigError(f"{sidecar} cannot be read: {error}; name the decoder in the config, or remove the file")
