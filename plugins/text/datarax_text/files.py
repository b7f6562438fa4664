"""Files of tokenizers: found on this machine, opened by the library that they are for, and known by their checksum."""

import errno
import hashlib
import os
import stat
from codecs import getincrementaldecoder
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

from datarax_core import StageError
from datarax_core.background import renew_in_forks

from .hugging_face import HuggingFaceTokenizer
from .tokenizer import Tokenizer

OPTION: Final = ("tokenizer",)
"""Option of stages that names the file, for errors."""

_SUFFIXES: Final = (".json", ".model", ".spm", ".vocab", ".txt")
"""Ends of names of files; other names may be those of a hub."""

_LARGEST: Final = 2**30
"""Bytes of the largest file that is read; those of tokenizers have some ten million."""

_EXTRA: Final = "pip install 'datarax-text[sentencepiece]'"


class TokenizerFile:
    """Tokenizer of a file: a ``tokenizer.json``, or the model of SentencePiece, told apart by their content.

    Stages of one process share the tokenizers of equal files. A pickle holds path and checksum; where it is loaded, the file is
    read again when the tokenizer is first used.

    Args:
        path: Path of the file; a relative one is relative to the working folder of now, not of later.
        split_special_tokens: Whether special tokens that are written in a text are ordinary text; None as its library has it.

    Raises:
        StageError: There is no such file, it cannot be read, or it is no tokenizer.
    """

    def __init__(self, path: str, *, split_special_tokens: bool | None = None) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 - keeps links, unlike resolve
        self.split_special_tokens = split_special_tokens
        content = _content(self.path)
        self.checksum = hashlib.sha256(content).hexdigest()
        self._tokenizer: Tokenizer | None = self._shared(content)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            StageError: This is a copy from a pickle, and the file is gone, or another one by now.
        """
        if self._tokenizer is None:
            self._tokenizer = self._shared()
        return self._tokenizer

    def _shared(self, content: bytes | None = None) -> Tokenizer:
        def load() -> Tokenizer:
            given = self._read_again() if content is None else content
            return _tokenizer_of(given, self.path, split_special_tokens=self.split_special_tokens)

        return _LOADED.get(self._identity(), load)

    def _read_again(self) -> bytes:
        content = _content(self.path)
        if (found := hashlib.sha256(content).hexdigest()) != self.checksum:
            raise StageError(
                f"{self.path} is another file than when the pipeline was built (SHA-256 {found[:12]}..., then "
                f"{self.checksum[:12]}...); build the pipeline again, or put the file back",
                OPTION,
            )
        return content

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_tokenizer": None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenizerFile) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str, bool | None]:
        return self.checksum, self.split_special_tokens


class _Loaded:
    """Tokenizers of this process by checksum and setting, as long as a stage uses them."""

    def __init__(self) -> None:
        self._by_identity: WeakValueDictionary[tuple[str, bool | None], Tokenizer] = WeakValueDictionary()
        self._lock = Lock()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Take a new lock: a thread of the parent that held the lock does not exist in a fork."""
        self._lock = Lock()

    def get(self, identity: tuple[str, bool | None], load: Callable[[], Tokenizer]) -> Tokenizer:
        """Return a tokenizer, loaded by one thread while others wait for it."""
        with self._lock:
            found = self._by_identity.get(identity)
            if found is None:
                found = self._by_identity[identity] = load()
        return found


_LOADED: Final = _Loaded()


def _content(path: str) -> bytes:
    """Return the content of a file.

    Raises:
        StageError: There is no such file, or it cannot be that of a tokenizer.
    """
    try:
        _require_file(path)
        return Path(path).read_bytes()
    except FileNotFoundError as cause:
        raise StageError(_no_file(path), OPTION) from cause
    except OSError as cause:
        if cause.errno == errno.ENAMETOOLONG:
            raise StageError(f"{path[:60]!r}... is no path of a file; name a tokenizer.json", OPTION) from cause
        raise StageError(f"{path} cannot be read: {cause.strerror}; make it readable for this user", OPTION) from cause


def _require_file(path: str) -> None:
    """Raise if there is a folder, a pipe or a huge file at a path, none of which is to be read."""
    found = os.stat(path)  # noqa: PTH116 - a Path raises others
    if stat.S_ISDIR(found.st_mode):
        inside = [f"{path}/{name}" for name in ("tokenizer.json", "tokenizer.model")]
        here = next(filter(os.path.exists, inside), "such as tokenizer.json")
        raise StageError(f"{path} is a folder; name the file in it, {here}", OPTION)
    if not stat.S_ISREG(found.st_mode):
        raise StageError(f"{path} is no ordinary file; name a tokenizer.json, or the model of SentencePiece", OPTION)
    if found.st_size > _LARGEST:
        raise StageError(f"{path} has {found.st_size / 2**30:.1f} GiB, and no tokenizer is so large", OPTION)


def _no_file(path: str) -> str:
    remedy = "name a tokenizer.json, or the model of SentencePiece, on this machine"
    if path.endswith(_SUFFIXES):
        return f"there is no file {path}; {remedy}"
    folder, name = os.path.split(path)
    name = name if os.path.isdir(folder) else f"{os.path.basename(folder)}/{name}"  # noqa: PTH112, PTH119 - of a name that is no path
    return (
        f"there is no file {path}, and a stage never downloads one: {remedy}; if {name!r} is a name on the Hugging Face Hub, "
        f"`hf download {name} tokenizer.json --local-dir .` brings it here"
    )


def _tokenizer_of(content: bytes, path: str, *, split_special_tokens: bool | None) -> Tokenizer:
    """Return the tokenizer that the content of a file is.

    Raises:
        StageError: It is none; says why.
    """
    if not content:
        raise StageError(f"{path} is empty; name a tokenizer.json, or the model of SentencePiece", OPTION)
    is_json = content.lstrip()[:1] == b"{" or path.endswith(".json")
    try:
        if is_json:
            return HuggingFaceTokenizer(content, split_special_tokens=bool(split_special_tokens))
        _require_no_text(content)
        return _sentence_piece(content, path)
    except StageError:
        raise
    except ValueError as refused:
        raise StageError(f"{path} cannot be used as a tokenizer: {refused}", OPTION) from refused


def _require_no_text(content: bytes) -> None:
    """Raise ValueError if a file begins with lines of text, which no model of SentencePiece does."""
    try:
        start = getincrementaldecoder("utf-8")().decode(content[:2000])
    except UnicodeDecodeError:
        return
    if all(each.isprintable() or each.isspace() for each in start):
        raise ValueError(
            "it is a text, and a vocabulary or merges alone do not say how text is split; name the tokenizer.json, or the "
            "model of SentencePiece, that belongs to it"
        )


def _sentence_piece(content: bytes, path: str) -> Tokenizer:
    try:
        from .sentence_piece import SentencePieceTokenizer  # noqa: PLC0415 - of an extra
    except ModuleNotFoundError as cause:
        if cause.name != "sentencepiece":
            raise
        raise StageError(
            f"{path} is no tokenizer.json, which begins with '{{'; if it is the model of SentencePiece, {_EXTRA}",
            OPTION,
        ) from cause
    return SentencePieceTokenizer(content)
