"""Files of tokenizers: found on this machine, opened by the library that they are for, and known by their checksum."""

import errno
import hashlib
import os
from pathlib import Path
from threading import Lock
from typing import Any, Final

from datarax_core import StageError

from .hugging_face import HuggingFaceTokenizer
from .tokenizer import Tokenizer

OPTION: Final = ("tokenizer",)
"""Option of stages that names the file, for errors."""

_SUFFIXES: Final = (".json", ".model", ".spm", ".vocab", ".txt")
"""Ends of names of files; other names may be those of a hub."""

_EXTRA: Final = "pip install 'datarax-text[sentencepiece]'"


class TokenizerFile:
    """Tokenizer of a file: a ``tokenizer.json``, or the model of SentencePiece, told apart by their content.

    A pickle holds path and checksum; the file is read again where the tokenizer is first used.

    Args:
        path: Path of the file; a relative one is relative to the working folder of now, not of later.

    Raises:
        StageError: There is no such file, it cannot be read, or it is no tokenizer.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 - keeps links, unlike resolve
        content = _content(self.path)
        self.checksum = hashlib.sha256(content).hexdigest()
        self._tokenizer: Tokenizer | None = _tokenizer_of(content, self.path)
        self._lock = Lock()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            StageError: This is a copy from a pickle, and the file is gone, or another one by now.
        """
        if self._tokenizer is None:
            with self._lock:
                if self._tokenizer is None:
                    self._tokenizer = self._read_again()
        return self._tokenizer

    def _read_again(self) -> Tokenizer:
        content = _content(self.path)
        if (found := hashlib.sha256(content).hexdigest()) != self.checksum:
            raise StageError(
                f"{self.path} is another file than when the pipeline was built (SHA-256 {found[:12]}..., then "
                f"{self.checksum[:12]}...); build the pipeline again, or put the file back",
                OPTION,
            )
        return _tokenizer_of(content, self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "checksum": self.checksum}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _tokenizer=None, _lock=Lock())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenizerFile) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)


def _content(path: str) -> bytes:
    """Return the content of a file."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as cause:
        raise StageError(_no_file(path), OPTION) from cause
    except IsADirectoryError as cause:
        inside = next(
            filter(os.path.exists, (f"{path}/{name}" for name in ("tokenizer.json", "tokenizer.model"))), None
        )
        raise StageError(
            f"{path} is a folder; name the file in it, {inside or 'such as tokenizer.json'}", OPTION
        ) from cause
    except OSError as cause:
        if cause.errno == errno.ENAMETOOLONG:
            raise StageError(f"{path[:60]!r}... is no path of a file; name a tokenizer.json", OPTION) from cause
        raise StageError(f"{path} cannot be read: {cause.strerror}; make it readable for this user", OPTION) from cause


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


def _tokenizer_of(content: bytes, path: str) -> Tokenizer:
    """Return the tokenizer that the content of a file is.

    Raises:
        StageError: It is none; says why.
    """
    if not content:
        raise StageError(f"{path} is empty; name a tokenizer.json, or the model of SentencePiece", OPTION)
    is_json = content.lstrip()[:1] == b"{" or path.endswith(".json")
    kind = "tokenizer.json" if is_json else "SentencePiece model"
    try:
        return HuggingFaceTokenizer(content) if is_json else _sentence_piece(content, path)
    except ValueError as refused:
        if isinstance(refused, StageError):
            raise
        more = "" if is_json else "; nor is it a tokenizer.json, which begins with '{'"
        raise StageError(f"{path} is no {kind}: {refused}{more}", OPTION) from refused


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
