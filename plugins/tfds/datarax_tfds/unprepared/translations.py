"""Folders of translated text, ``language.split.txt`` with a line an example, as ``tfds.TranslateFolder`` reads them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Final, NamedTuple

import numpy as np

from datarax_core.errors import DataFileError
from datarax_core.record_files import ReadError
from datarax_core.sources import FileTable, Stamp, require_file
from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.splits import FilePart

from .data import ExampleRecords, UnpreparedData, example_of, split_of

_BLOCK: Final = 1 << 24
"""Bytes that are searched for ends of lines at once."""

_NAME_PARTS: Final = 3


class TextFile(NamedTuple):
    """A file of text, and where its lines are."""

    path: str
    stamp: Stamp
    starts: np.ndarray
    """int64 (lines,): offset of each line."""

    stops: np.ndarray
    """int64 (lines,): offset of the end of each line, in front of the characters that end it."""


class TranslateFolder(UnpreparedData):
    """A folder with a file of lines for each language and split; line i of each language has the same meaning.

    The files are read once, to find their lines; 16 bytes a line are kept.

    Args:
        root: The folder.

    Raises:
        ValueError: A file has another name, a language lacks a split, or two languages of a split differ in their lines.
        DataFileError: A file is no UTF-8.
    """

    name: ClassVar = "translate_folder"
    description: ClassVar = "Lines of text of a folder, in several languages."
    layout: ClassVar = "language.split.txt"

    def __init__(self, root: str) -> None:
        self.root = root
        self._files: dict[str, dict[str, TextFile]] = {}
        for name in sorted(os.listdir(root)):  # noqa: PTH208 - names alone
            pieces = name.split(".")
            if len(pieces) != _NAME_PARTS:
                raise ValueError(
                    f"{name!r:.100} in {root} is none of the files of translations, {self.layout}; move it away"
                )
            self._files.setdefault(pieces[1], {})[pieces[0]] = _indexed(os.path.join(root, name))  # noqa: PTH118
        if not self._files:
            raise ValueError(f"there are no files in {root}: {self.layout} is expected, such as en.train.txt")
        self.languages = sorted({language for files in self._files.values() for language in files})
        self.counts = {split: self._count(split, files) for split, files in self._files.items()}
        f = tensorflow_datasets().features
        self.features = f.FeaturesDict({language: f.Text() for language in self.languages})

    def records(self, parts: Sequence[FilePart]) -> "TranslateRecords":
        """Return the lines of parts of splits."""
        return TranslateRecords(parts, [[self._files[split_of(part)][one] for one in self.languages] for part in parts])

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Return the sizes of the splits."""
        return {
            split: (self.counts[split], sum(file.stamp.size for file in files.values()), len(files))
            for split, files in self._files.items()
        }

    def file_names(self) -> list[str]:
        """Return the names of the files of the first language."""
        return [os.path.basename(files[self.languages[0]].path) for files in self._files.values()]  # noqa: PTH119

    def num_bytes(self, parts: Sequence[FilePart]) -> int:
        """Return the bytes of the lines in parts of splits; a file that is only partly in them counts in proportion."""
        return sum(
            file.stamp.size * part.num_records // max(1, part.records_in_file)
            for part in parts
            for file in self._files[split_of(part)].values()
        )

    def _count(self, split: str, files: dict[str, TextFile]) -> int:
        if missing := [language for language in self.languages if language not in files]:
            raise ValueError(
                f"split {split!r} in {self.root} lacks the file {missing[0]}.{split}.txt, which other splits have"
            )
        counts = {language: len(file.starts) for language, file in files.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{language}.{split}.txt has {count} lines" for language, count in counts.items())
            raise ValueError(f"the files of split {split!r} in {self.root} differ in their numbers of lines: {listed}")
        return next(iter(counts.values()))


class TranslateRecords(ExampleRecords):
    """Lines by record index, in each language.

    Args:
        parts: Parts of splits.
        files: For each part, the file of each language.
    """

    format = TranslateFolder.name

    def __init__(self, parts: Sequence[FilePart], files: Sequence[Sequence[TextFile]]) -> None:
        self._files = files
        self._starts = [part.start for part in parts]
        first = [of_part[0] for of_part in files]
        self.table = FileTable.of(
            [file.path for file in first],
            [part.num_records for part in parts],
            [file.stamp for file in first],
            self._starts,
        )

    def stored(self, records: np.ndarray) -> list[bytes]:
        """Read lines of each language; see `ExampleRecords.stored`."""
        return self.table.read_by_part(records, self._rows)

    def files(self) -> Iterable[tuple[str, str, int]]:
        """Return path, name with the rows that are read, and size of each file; see `ExampleRecords.files`."""
        for of_part, start, count in zip(self._files, self._starts, self.table.counts.tolist(), strict=True):
            for file in of_part:
                yield file.path, f"{os.path.basename(file.path)}\0{start}\0{start + count}", file.stamp.size  # noqa: PTH119

    def _rows(self, part: int, rows: list[int]) -> list[bytes]:
        columns = [[(_language(file.path), line) for line in _lines(file, rows)] for file in self._files[part]]
        return [example_of(values) for values in zip(*columns, strict=True)]


def _language(path: str) -> str:
    return os.path.basename(path).partition(".")[0]  # noqa: PTH119 - of a name that was split before


def _lines(file: TextFile, rows: list[int]) -> list[bytes]:
    try:
        with open(file.path, "rb", buffering=0) as opened:  # noqa: PTH123 - a fraction of the time
            handle = opened.fileno()
            file.stamp.require_same(file.path, Stamp.of(handle))
            spans = [(int(file.starts[row]), int(file.stops[row])) for row in rows]
            return [os.pread(handle, stop - start, start) for start, stop in spans]
    except FileNotFoundError:
        file.stamp.require_same(file.path)
        raise
    except OSError as error:
        raise ReadError(f"{file.path}: {error.strerror or error}") from error


# -- where the lines of a file are ---------------------------------------------------------------------------------------


def _indexed(path: str) -> TextFile:
    stamp = require_file(path)
    starts, stops, at = [], [], 0
    with open(path, "rb") as file:  # noqa: PTH123 - takes any name
        for block in _blocks(file):
            try:
                block.decode()
            except UnicodeDecodeError as error:
                raise DataFileError(
                    path, f"{path} is no text in UTF-8: {error.reason} at byte {at + error.start}"
                ) from error
            begins, ends = line_spans(block)
            starts.append(begins + at)
            stops.append(ends + at)
            at += len(block)
    none = np.empty(0, np.int64)
    return TextFile(path, stamp, np.concatenate([none, *starts]), np.concatenate([none, *stops]))


def _blocks(file: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of a file in blocks that end with a line."""
    held = b""
    while block := file.read(_BLOCK):  # type: ignore[attr-defined]  # an open file
        whole, newline, rest = (held + block).rpartition(b"\n")
        if newline:
            yield whole + newline
        held = rest
    if held:
        yield held


def line_spans(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return where the lines of UTF-8 begin and end, int64 (lines,) each; lines are those of ``str.splitlines``."""
    stored = np.frombuffer(text, np.uint8)
    at = np.flatnonzero(_MAY_END[stored])
    last, second, third = stored[at], _before(stored, at, 1), _before(stored, at, 2)
    following = stored[np.minimum(at + 1, max(0, len(stored) - 1))]
    is_end = (last < ord(" ")) & ~((last == ord("\r")) & (following == ord("\n")) & (at + 1 < len(stored)))
    sizes = np.where((last == ord("\n")) & (second == ord("\r")), 2, 1)
    is_nel = (last == 0x85) & (second == 0xC2)
    is_separator = (last >= 0xA8) & (second == 0x80) & (third == 0xE2)
    sizes = np.where(is_separator, 3, np.where(is_nel, 2, sizes))
    kept = is_end | is_nel | is_separator
    after = at[kept] + 1
    stops = after - sizes[kept]
    starts = np.concatenate([np.zeros(1, np.int64), after])
    if (len(after) and after[-1] == len(stored)) or not len(stored):
        return starts[:-1], stops
    return starts, np.append(stops, len(stored))


_MAY_END: Final = np.zeros(256, np.bool_)
"""Last bytes of the characters that end a line: the control characters, U+0085, U+2028 and U+2029."""
_MAY_END[[0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0xA8, 0xA9]] = True


def _before(stored: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    return np.where(at >= count, stored[np.maximum(at - count, 0)], 0)
