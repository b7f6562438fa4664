"""Tokenizers of Google's library ``sentencepiece``, which comes with the extra ``datarax-text[sentencepiece]``."""

from collections.abc import Sequence

import numpy as np
import sentencepiece

from .tokenizer import Encoded, Text, Tokenizer


class SentencePieceTokenizer(Tokenizer):
    """Tokenizer of a SentencePiece model, encoded by as many threads of the library as there are cores.

    Args:
        content: The content of the model's file.

    Raises:
        ValueError: The content is no model.
    """

    kind = "a SentencePiece model"
    names_special_tokens = False

    def __init__(self, content: bytes) -> None:
        self._loaded = sentencepiece.SentencePieceProcessor()
        try:
            self._loaded.LoadFromSerializedProto(content)
        except RuntimeError as cause:
            raise ValueError(
                f"it is no model of SentencePiece ({cause}), nor a tokenizer.json, which begins with '{{'"
            ) from cause
        self.known = np.ones(self._loaded.vocab_size(), np.bool_)

    def encode(
        self,
        texts: Sequence[Text],
        *,
        own_special_tokens: bool,  # noqa: ARG002 - of the other library
        with_spans: bool,
        with_type_ids: bool,  # noqa: ARG002 - the same
    ) -> Encoded:
        """Return the tokens of texts; a model names no special tokens around a text, and joins no pairs."""
        plain = [text for text in texts if isinstance(text, str)]
        if not with_spans:
            rows = self._loaded.encode(plain, return_type="numpy")
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
            return Encoded(np.concatenate([np.zeros(0, np.int32), *rows]), lengths)
        found = self._loaded.encode(plain, return_type="offset_mapping", return_bytes=False)
        return Encoded.of_lists([each["ids"] for each in found], [each["offsets"] for each in found])

    def decode(self, rows: Sequence[list[int]], *, special_tokens: bool) -> list[str]:  # noqa: ARG002 - of the other library
        """Return the text of each row of known ids; the library always leaves control tokens out."""
        texts: list[str] = self._loaded.decode(list(rows))
        return texts

    def token_id(self, token: str) -> int | None:
        """Return the id of a piece; None if there is none that is written so."""
        found = int(self._loaded.piece_to_id(token))
        return found if self._loaded.id_to_piece(found) == token else None

    def special_tokens(self) -> list[str]:
        """Return the control pieces, such as ``</s>``."""
        pieces = range(self._loaded.vocab_size())
        return [self._loaded.id_to_piece(piece) for piece in pieces if self._loaded.is_control(piece)]
