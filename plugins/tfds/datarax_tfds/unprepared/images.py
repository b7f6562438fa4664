"""Folders of images, ``split/label/name.png``, as ``tfds.ImageFolder`` reads them, in the same order."""

import os
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from datarax_core.errors import DataFileError
from datarax_core.record_files import ReadError
from datarax_core.sources import FileTable, Stamp
from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.splits import FilePart

from .data import ExampleRecords, UnpreparedData, example_of, split_of

SUFFIXES: Final = (".jpg", ".jpeg", ".png")
"""Ends of the names of images, in any case; files with other names are left out, as TFDS leaves them out."""

_MANY: Final = 1 << 10
_THREADS: Final = 16


class ImageFolder(UnpreparedData):
    """A folder of images in a folder a label, in a folder a split.

    Args:
        root: The folder.
        shape: Shape of the images, None for each size that varies; None stands for (None, None, 3).
        dtype: Name of their dtype; None stands for uint8.

    Raises:
        ValueError: There are no images at ``split/label/``.
        DataFileError: A name among the images is a link to a file that is gone.
    """

    name: ClassVar = "image_folder"
    description: ClassVar = "Images of a folder, with the names of their folders as labels."
    layout: ClassVar = "split/label/image.png (or .jpg, .jpeg)"
    has_options: ClassVar = True
    supervised_keys: ClassVar = ("image", "label")

    def __init__(self, root: str, shape: Sequence[int | None] | None = None, dtype: str | None = None) -> None:
        self.root = root
        labels = {split: _folders(os.path.join(root, split)) for split in _folders(root)}  # noqa: PTH118 - served as TFDS joins them
        self._images = {
            split: [image for label in found for image in _images(root, split, label)]
            for split, found in labels.items()
            if found
        }
        if not any(self._images.values()):
            raise ValueError(f"there are no images in {root}: they are expected at {self.layout}")
        for split, images in self._images.items():
            random.Random(split).shuffle(images)  # the fixed order of tfds.ImageFolder  # noqa: S311
        self.labels = sorted({label for found in labels.values() for label in found})
        self.counts = {split: len(images) for split, images in self._images.items()}
        self._made: tuple[tuple[FilePart, ...], ImageRecords] | None = None
        f = tensorflow_datasets().features
        self.features = f.FeaturesDict(
            {
                "image": f.Image(shape=None if shape is None else tuple(shape), dtype=dtype and np.dtype(dtype).type),
                "label": f.ClassLabel(names=self.labels),
                "image/filename": f.Text(),
            }
        )

    def records(self, parts: Sequence[FilePart]) -> "ImageRecords":
        """Return the images of parts of splits; looks at each file, unless these parts are those of the call before."""
        if self._made is None or self._made[0] != tuple(parts):
            number = {label: place for place, label in enumerate(self.labels)}
            chosen = [image for part in parts for image in self._images[split_of(part)][part.start : part.stop]]
            labels = np.asarray([number[label] for label, _ in chosen], np.int64)
            self._made = tuple(parts), ImageRecords(self.root, [path for _, path in chosen], labels)
        return self._made[1]

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Return the sizes of the splits; looks at each file."""
        return {
            split: (len(images), sum(stamp.size for stamp in _stamps([path for _, path in images])), len(images))
            for split, images in self._images.items()
        }

    def file_names(self) -> list[str]:
        """Return the names of all images."""
        return [os.path.basename(path) for _, path in chain.from_iterable(self._images.values())]  # noqa: PTH119

    def num_bytes(self, parts: Sequence[FilePart]) -> int:
        """Return the bytes of the files of the images in parts of splits."""
        return sum(stamp.size for stamp in self.records(parts).table.stamps if stamp is not None)


class ImageRecords(ExampleRecords):
    """Images by record index; each is a file of its own.

    Args:
        root: The folder.
        paths: File of each image.
        labels: int64 (n,): label of each image.
    """

    format = ImageFolder.name

    def __init__(self, root: str, paths: Sequence[str], labels: np.ndarray) -> None:
        self._root = root
        self._labels = labels
        self.table = FileTable.of(paths, [1] * len(paths), _stamps(paths))

    def stored(self, records: np.ndarray) -> list[bytes]:
        """Read the files of images; see `ExampleRecords.stored`."""
        return [self._stored(record) for record in records.tolist()]

    def files(self) -> Iterable[tuple[str, str, int]]:
        """Return path, name below the root, and size of each file; see `ExampleRecords.files`."""
        below = len(os.path.join(self._root, ""))  # noqa: PTH118 - paths are joined to it
        for path, stamp in zip(self.table.paths, self.table.stamps, strict=True):
            yield path, path[below:], stamp.size if stamp else 0

    def _stored(self, record: int) -> bytes:
        path, stamp = self.table.paths[record], self.table.stamps[record]
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a fraction of the time
                now = Stamp.of(file.fileno())
                image = file.read()
        except FileNotFoundError:
            self.table.require_unchanged(record)
            raise
        except OSError as error:
            raise ReadError(error.strerror or str(error)) from error
        if stamp is not None and now != stamp:
            stamp.require_same(path, now)
        values = {"image": image, "label": int(self._labels[record]), "image/filename": os.fsencode(path)}
        return example_of(values.items())


def _images(root: str, split: str, label: str) -> list[tuple[str, str]]:
    """Return label and path of each image of a label, by name."""
    folder = os.path.join(root, split, label, "")  # noqa: PTH118 - paths are served as TFDS joins them
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES))  # noqa: PTH208
    return [(label, folder + name) for name in names]


def _folders(path: str) -> list[str]:
    """Return the names of the folders in a folder, in their order."""
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _stamps(paths: Sequence[str]) -> list[Stamp]:
    """Return the stamp that each file has now, by several threads if there are many: a network takes its time for each."""
    if len(paths) <= _MANY:
        return [_stamp(path) for path in paths]
    with ThreadPoolExecutor(_THREADS) as pool:
        blocks = pool.map(_stamps, (paths[start : start + _MANY] for start in range(0, len(paths), _MANY)))
        return [stamp for block in blocks for stamp in block]


def _stamp(path: str) -> Stamp:
    try:
        return Stamp.of(path)
    except FileNotFoundError as error:
        target = Path(path).readlink() if Path(path).is_symlink() else None
        gone = f"is a link to {target}, which does not exist" if target else "is gone"
        raise DataFileError(path, f"{path} {gone}; restore the file, or remove the link") from error
