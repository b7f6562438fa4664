"""Known plugins, installed or not: their kinds and names, the distributions that have them, and the files that they open.

A name of `FIRST_PARTIES` belongs to its distribution: no other one may provide it. A line of `THIRD_PARTIES` is a hint only. It
says what to install for a name, or for a file, that nothing installed knows; it owns no name and is never imported.

The table holds constants only, so that reading it costs next to nothing; `known` makes objects of its lines.
"""

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

_Row: TypeAlias = tuple[str, str, str, str, tuple[str, ...]]

_ARRAY_RECORD: Final = (
    "*.array_record", "*.arrayrecord", "*.arecord", "*/*.array_record", "*/*.arrayrecord", "*/*.arecord",
)  # fmt: skip

_TFRECORD: Final = (
    "*.tfrecord", "*.tfrecords", "*.tfrec", "*.tfrecord.gz", "*.tfrecords.gz", "*.tfrec.gz",
    "*/*.tfrecord", "*/*.tfrecords", "*/*.tfrec", "*/*.tfrecord.gz", "*/*.tfrecords.gz", "*/*.tfrec.gz",
)  # fmt: skip

_NUMPY: Final = ("*.npz", "*/*.npy")

_TFDS: Final = ("*/dataset_info.json",)

FIRST_PARTIES: Final[tuple[_Row, ...]] = (
    ("source", "arrayrecord", "datarax-arrayrecord", "records of ArrayRecord files, with random access", _ARRAY_RECORD),
    ("source", "memory", "datarax-memory", "arrays in memory, .npz files and folders of .npy files", _NUMPY),
    ("source", "mix", "datarax-mix", "a weighted mixture of sources, in exact proportions", ()),
    ("source", "tfds", "datarax-tfds", "a split of a prepared TFDS data set, eager or streaming", _TFDS),
    ("source", "tfds_eager", "datarax-tfds", "a split of a prepared TFDS data set, read once into memory", _TFDS),
    ("source", "tfds_streaming", "datarax-tfds", "a split of a prepared TFDS data set, read on request", _TFDS),
    ("source", "tfrecord", "datarax-tfds", "records of TFRecord files, with random access", _TFRECORD),
    ("source", "bucket", "datarax-views", "batches of records of like length, padded to a bound", ()),
    ("source", "concat", "datarax-views", "several sources one after another, as one", ()),
    ("source", "filter", "datarax-views", "the records of a source that fulfil conditions", ()),
    ("source", "groups", "datarax-views", "a source grouped by the values of a field", ()),
    ("source", "pack", "datarax-views", "documents of varying length, packed into rows of one length", ()),
    ("source", "repeat", "datarax-views", "each record of a source several times an epoch", ()),
    ("source", "sample", "datarax-views", "draws with replacement, in proportion to weights", ()),
    ("source", "subset", "datarax-views", "some records of a source: a slice, a split, a fold", ()),
    ("source", "window", "datarax-views", "windows of one length over or inside records", ()),
    ("source", "zip", "datarax-views", "fields of aligned sources, side by side", ()),
    ("stage", "astype", "datarax-core", "casts a field of any length to another dtype, on the host", ()),
    ("stage", "cast", "datarax-core", "casts a field to another dtype", ()),
    ("stage", "lookup", "datarax-core", "class numbers from text, bytes or integers, on the host", ()),
    ("stage", "one_hot", "datarax-core", "one-hot rows from class numbers", ()),
    ("stage", "pad", "datarax-core", "pads records of varying length to one length, on the host", ()),
    ("stage", "rename", "datarax-core", "gives fields other names", ()),
    ("stage", "rescale", "datarax-core", "field * scale + offset", ()),
    ("stage", "select", "datarax-core", "keeps the named fields", ()),
    ("stage", "tokenize_bytes", "datarax-core", "a token a byte of text, on the host", ()),
    ("stage", "truncate", "datarax-core", "cuts records of varying length, on the host", ()),
    ("stage", "center_crop", "datarax-image", "cuts the center of pictures", ()),
    ("stage", "color_jitter", "datarax-image", "changes brightness, contrast, saturation and hue at random", ()),
    ("stage", "cutmix", "datarax-image", "pastes a window of another picture, and mixes labels", ()),
    ("stage", "decode_image", "datarax-image", "decodes PNG, JPEG, WebP, GIF and BMP, on the host", ()),
    ("stage", "flip", "datarax-image", "flips pictures at random", ()),
    ("stage", "mixup", "datarax-image", "blends pictures and labels of two records", ()),
    ("stage", "normalize", "datarax-image", "subtracts a mean from each channel, and divides by a deviation", ()),
    ("stage", "random_crop", "datarax-image", "cuts windows at random places of pictures", ()),
    ("stage", "random_resized_crop", "datarax-image", "cuts random windows of pictures, and resizes them", ()),
    ("stage", "resize", "datarax-image", "resizes pictures", ()),
    ("stage", "detokenize", "datarax-text", "text from tokens, on the host", ()),
    ("stage", "tokenize", "datarax-text", "tokens from text, on the host", ()),
    ("decoder", "array", "datarax-arrayrecord", "arrays packed in order, as tobytes() writes them", ()),
    ("decoder", "example", "datarax-arrayrecord", "tf.train.Examples and SequenceExamples", ()),
    ("decoder", "msgpack", "datarax-arrayrecord", "maps in MessagePack, with arrays of any dtype", ()),
    ("decoder", "npz", "datarax-arrayrecord", "records that are .npz files", ()),
    ("decoder", "raw", "datarax-arrayrecord", "the bytes of a record, as they are", ()),
)
"""Kind, name, distribution, what it is, and patterns of the files that it opens; ``*/...`` is a folder with such an entry."""

THIRD_PARTIES: Final[tuple[_Row, ...]] = ()
"""Plugins of others, in the same form, sorted; CONTRIBUTING.md says how to add a line, and a test holds the form."""


class Known(NamedTuple):
    """A plugin that is known, installed or not; its kind is a noun such as "source" or "hook plugin"."""

    kind: str
    name: str
    distribution: str
    summary: str
    opens: tuple[str, ...] = ()


def owners(kind: str) -> dict[str, str]:
    """Return the distribution that owns a name, for each first-party name of a kind."""
    return {name: distribution for of_kind, name, distribution, _, _ in FIRST_PARTIES if of_kind == kind}


def known() -> Iterator[Known]:
    """Yield every known plugin, first parties first."""
    for row in (*FIRST_PARTIES, *THIRD_PARTIES):
        yield Known(*row)


def homes(kinds: Iterable[str] | None = None) -> dict[str, str]:
    """Return a distribution for each known name of some kinds, or of all; that of a first party, if one has the name."""
    wanted = None if kinds is None else set(kinds)
    rows = [row for row in (*THIRD_PARTIES, *FIRST_PARTIES) if wanted is None or row[0] in wanted]
    return {name: distribution for _, name, distribution, _, _ in rows}


_SHARD: Final = re.compile(r"-\d{5,}-of-\d{5,}")
"""Number of a shard, which stands before or after the suffix of a file's name."""


def opening(path: str | os.PathLike[str]) -> list[Known]:
    """Return the known sources that open a file or folder by its name, installed or not, the most specific pattern first.

    Cost: of a folder, one listing of it.
    """
    path = Path(path)
    names = [_plain(entry.name) for entry in path.iterdir()] if path.is_dir() else [_plain(path.name)]
    place = "*/" if path.is_dir() else ""
    patterns = [(one, pattern) for one in known() for pattern in one.opens if ("/" in pattern) == bool(place)]
    found = [pair for pair in patterns if any(fnmatchcase(f"{place}{name}", pair[1]) for name in names)]
    found.sort(key=lambda pair: "*" in pair[1].removeprefix("*/"))  # a file of one name says more than a suffix
    return list(dict.fromkeys(one for one, _ in found))


def _plain(name: str) -> str:
    """Return a file's name in lower case and without the number of a shard; "" for a hidden file."""
    return "" if name.startswith(".") else _SHARD.sub("", name).lower()
