"""The kinds of folders by the names of TFDS's builders, the options of each, and the builders themselves."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

from .data import UnpreparedData
from .images import ImageFolder
from .translations import TranslateFolder

_KINDS: Final[Mapping[str, type[UnpreparedData]]] = {kind.name: kind for kind in (ImageFolder, TranslateFolder)}
_BUILDERS: Final = {"ImageFolder": "image_folder", "TranslateFolder": "translate_folder"}
"""Names of the kinds by the names of TFDS's classes."""

_MODULE: Final = "tensorflow_datasets.core.folder_dataset"
_ANY_SIZE: Final = (None, None, 3)


class FolderOptions(TypedDict, total=False):
    """Arguments of ``tfds.ImageFolder``, as a config has them."""

    shape: Sequence[int | None]
    dtype: str


def folder_kind(name: str) -> type[UnpreparedData] | None:
    """Return the kind of folder that a builder's name says, also as the name of its class; None for any other name."""
    return _KINDS.get(_BUILDERS.get(name, name))


def open_folder(kind: type[UnpreparedData], root: str, options: Mapping[str, Any]) -> UnpreparedData:
    """List a folder of examples.

    Raises:
        FileNotFoundError, PermissionError: There is no such folder, or it may not be listed.
        ValueError, DataFileError: Its files are not those of the kind.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"no such folder: {root}; data_dir is the folder of {kind.layout}")
    return kind(root, **options)  # type: ignore[call-arg]  # the config gives options only to a kind that has some


def reads_a_folder(builder: Any) -> bool:
    """Return whether a builder of TFDS reads a folder of examples, as TFDS does or in a way of its own."""
    return any(base.__module__.startswith(_MODULE) for base in type(builder).__mro__)


def options_of_builder(builder: Any) -> tuple[str, str, FolderOptions]:
    """Return name, folder and options of a builder that reads a folder of examples.

    Raises:
        ValueError: The builder is of a class of its own, which may read other files.
    """
    kind = folder_kind(type(builder).__name__) if type(builder).__module__.startswith(_MODULE) else None
    if kind is None:
        raise ValueError(
            f"{type(builder).__name__} reads its files in a way of its own, without records; write them once as a data set: "
            "tfds.dataset_builders.store_as_tfds_dataset(name, version, features=builder.info.features, split_datasets=...), "
            "or serve them by from_sequence"
        )
    options = FolderOptions()
    if kind is ImageFolder:
        image = builder.info.features["image"]
        if tuple(image.shape) != _ANY_SIZE:
            options["shape"] = list(image.shape)
        if image.np_dtype.__name__ != "uint8":
            options["dtype"] = image.np_dtype.__name__
    return f"{kind.name}:{kind.version}", os.fspath(builder.data_dir), options
