"""Tokenizers of Hugging Face's library ``tokenizers``, from the JSON that it saves."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import tokenizers

from .tokenizer import Encoded, Text, Tokenizer

_OTHER_FILES: Final = {
    "tokenizer_class": "the settings of a tokenizer (tokenizer_config.json)",
    "model_type": "the config of a model",
    "architectures": "the config of a model",
    "added_tokens_decoder": "the settings of a tokenizer (tokenizer_config.json)",
}
"""Keys of other JSON files that lie beside a tokenizer.json, and what such a file is."""


class HuggingFaceTokenizer(Tokenizer):
    """Tokenizer of a ``tokenizer.json``.

    Texts are encoded by the library's own threads, as many as there are cores, or as ``RAYON_NUM_THREADS`` says; by one with
    ``TOKENIZERS_PARALLELISM=false``. Truncation and padding that the file has settings of are switched off.

    Args:
        content: The content of the file.
        split_special_tokens: Whether special tokens that are written in a text are ordinary text.

    Raises:
        ValueError: The content is no tokenizer, or one that splits words at random.
    """

    kind = "a tokenizer.json"
    names_special_tokens = True

    def __init__(self, content: bytes, *, split_special_tokens: bool = False) -> None:
        try:
            with _panics_as_errors():
                loaded = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as cause:  # the library raises nothing narrower
            raise ValueError(_reason(content, cause)) from cause
        _require_repeatable(loaded.model)
        loaded.no_truncation()
        loaded.no_padding()
        loaded.encode_special_tokens = split_special_tokens
        self._loaded = loaded
        ids = np.fromiter(loaded.get_vocab(with_added_tokens=True).values(), np.int64)
        if not ids.size:
            raise ValueError("it has no tokens; it was saved before it was trained")
        self.known = np.zeros(ids.max() + 1, np.bool_)
        self.known[ids] = True

    def encode(
        self, texts: Sequence[Text], *, own_special_tokens: bool, with_spans: bool, with_type_ids: bool
    ) -> Encoded:
        """Return the tokens of texts; spans only if they are asked for, which take half as much time again."""
        encode = self._loaded.encode_batch if with_spans else self._loaded.encode_batch_fast
        with _panics_as_errors():
            encodings = encode(texts, add_special_tokens=own_special_tokens)
        return Encoded.of_lists(
            [encoding.ids for encoding in encodings],
            [encoding.offsets for encoding in encodings] if with_spans else None,
            [encoding.type_ids for encoding in encodings] if with_type_ids else None,
        )

    def decode(self, rows: Sequence[list[int]], *, special_tokens: bool) -> list[str]:
        """Return the text of each row of known ids."""
        with _panics_as_errors():
            texts: list[str] = self._loaded.decode_batch(rows, skip_special_tokens=not special_tokens)
        return texts

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None if there is none that is written so."""
        found: int | None = self._loaded.token_to_id(token)
        return found

    def special_tokens(self) -> list[str]:
        """Return the added tokens that the file calls special."""
        return [token.content for token in self._loaded.get_added_tokens_decoder().values() if token.special]


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Raise a panic of the library, which is no ``Exception`` and would end the thread that meets it, as a RuntimeError."""
    try:
        yield
    except BaseException as cause:
        if type(cause).__name__ == "PanicException":  # the library does not export it
            raise RuntimeError(f"the library tokenizers panicked: {cause}") from cause
        raise


def _reason(content: bytes, cause: Exception) -> str:
    """Return why the content of a file is no tokenizer: what the file is, if that is known, else what the library said."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return str(cause)
    if not isinstance(found, dict):
        return str(cause)
    if kinds := [kind for key, kind in _OTHER_FILES.items() if key in found]:
        return f"it is {kinds[0]}; name the tokenizer.json beside it"
    if found and all(isinstance(value, int) for value in found.values()):
        return "it is a vocabulary alone (vocab.json), which does not say how text is split; name the tokenizer.json beside it"
    if "model" not in found:
        return 'it has no "model"; name a tokenizer.json, which comes with a model, or is saved by a tokenizer of the library'
    return str(cause)


def _require_repeatable(model: Any) -> None:
    """Raise if a model drops merges at random: `tokenizers` takes these numbers from no seed."""
    if dropout := getattr(model, "dropout", None):
        raise ValueError(
            f'its model has "dropout": {dropout}, with which the same text is split differently each time, by random '
            'numbers that no seed selects; set "dropout": null in a copy of the file, and name that'
        )
