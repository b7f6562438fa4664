"""The stage that makes tokens of text."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

import jax
import numpy as np
from pydantic import ConfigDict, Field

from datarax_core import StageError
from datarax_core.config import Flag, LocalFile, Name
from datarax_core.errors import did_you_mean
from datarax_core.records import Batch, ElementSpec, Ragged
from datarax_core.stages import with_new_field

from .fields import NewName, text_struct, value_of, with_result
from .files import OPTION, TokenizerFile
from .stage import TokenizerStage
from .texts import require_whole, texts_of
from .tokenizer import Encoded, Text, Tokenizer

TokenDtype = Literal["int32", "uint16", "uint32", "int64"]
"""Dtypes of tokens."""

_INT32: Final = np.dtype(np.int32)


class Tokenize(TokenizerStage):
    """Host stage that makes tokens of a field of text: a ragged column of ids, as many a record as its text has.

    All tokens of a text are kept: truncation and padding that a ``tokenizer.json`` has settings of are not applied; the stages
    ``truncate`` and ``pad`` do either where a pipeline says so. Bytes are read as UTF-8.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "tokenize", "field": "text", "tokenizer": "tokenizer.json", "to": "tokens"}]
        }
    )

    type: Literal["tokenize"] = "tokenize"
    field: Name = Field(description="The field of text, by dotted name.")
    tokenizer: LocalFile = Field(
        description="A tokenizer.json, or the model of SentencePiece: a file of this machine; nothing is ever downloaded."
    )
    to: NewName | None = Field(
        default=None,
        description="Name of a new field for the tokens, beside the text; null puts them in place of the text.",
    )
    pair: Name | None = Field(
        default=None,
        description="A second field of text, which the tokenizer.json joins with the first, as in [CLS] one [SEP] other [SEP].",
    )
    special_tokens: Flag | None = Field(
        default=None,
        description="Whether the special tokens are added that the tokenizer.json puts around a text; null is true for such a "
        "file. The model of SentencePiece names none.",
    )
    split_special_tokens: Flag | None = Field(
        default=None,
        description="Whether special tokens that are written in a text are split like other text; null is false for a "
        "tokenizer.json, and true for the model of SentencePiece.",
    )
    bos: Name | None = Field(default=None, description="A token to put before those of each text, such as <s>.")
    eos: Name | None = Field(default=None, description="A token to put behind those of each text, such as </s>.")
    offsets: NewName | None = Field(
        default=None,
        description="Name of a new field for the place of each token in its text: its first character, and the one after its "
        "last; (0, 0) for tokens that are added.",
    )
    type_ids: NewName | None = Field(
        default=None,
        description="Name of a new field, int32: 0 for each token of the first text and 1 for each of its pair, or as the "
        "tokenizer.json numbers them.",
    )
    dtype: TokenDtype = Field(default="int32", description="The dtype of the tokens.")

    def _with_tokenizer(self) -> "TokenizeText":
        return TokenizeText(self, TokenizerFile(self.tokenizer, split_special_tokens=self.split_special_tokens))


class TokenizeText:
    """Stage that `Tokenize` builds: the config, and the tokenizer of its file.

    Args:
        config: Its options.
        file: Its tokenizer.

    Raises:
        StageError: An option asks for what the tokenizer does not have.
    """

    on_host: ClassVar[bool] = True
    name: ClassVar[str] = "tokenize"

    def __init__(self, config: Tokenize, file: TokenizerFile) -> None:
        self.config, self.file = config, file
        tokenizer = file.tokenizer
        if config.special_tokens is not None and not tokenizer.names_special_tokens:
            raise StageError(
                f"{file.path} is {tokenizer.kind}, which names no special tokens around a text; leave special_tokens out, and "
                "name them as bos and eos",
                ("special_tokens",),
            )
        if config.split_special_tokens is False and not tokenizer.names_special_tokens:
            raise StageError(
                f"{file.path} is {tokenizer.kind}, whose library always splits them; leave split_special_tokens out",
                ("split_special_tokens",),
            )
        for option in ("pair", "type_ids"):
            if getattr(config, option) is not None and not tokenizer.names_special_tokens:
                raise StageError(
                    f"{file.path} is {tokenizer.kind}, which joins no pairs of texts; leave {option} out", (option,)
                )
        if tokenizer.largest_id > np.iinfo(config.dtype).max:
            raise StageError(
                f"{config.dtype} holds no ids above {np.iinfo(config.dtype).max}, and {file.path} has tokens up to "
                f"{tokenizer.largest_id}; choose int32",
                ("dtype",),
            )
        self._own_special_tokens = config.special_tokens is not False
        self._bos = self._id_of(config.bos, "bos")
        self._eos = self._id_of(config.eos, "eos")
        self._require_added_once()

    def _id_of(self, token: str | None, option: str) -> int | None:
        if token is None:
            return None
        tokenizer = self.file.tokenizer
        if (found := tokenizer.token_id(token)) is None:
            special = tokenizer.special_tokens()
            known = f" (special tokens: {', '.join(special)})" if special else ""
            raise StageError(f"{self.file.path} has no token {token!r}{did_you_mean(token, special)}{known}", (option,))
        return found

    def _require_added_once(self) -> None:
        """Raise if the tokenizer itself puts the token there that an option adds."""
        try:
            ids = self._encoded(self.file.tokenizer, [("", "") if self.config.pair else ""]).ids.tolist()
        except Exception as cause:  # any error of the library
            raise StageError(f"{self.file.path} tokenizes no text: {cause}", OPTION) from cause
        for option, token, place in (("bos", self._bos, slice(None, 1)), ("eos", self._eos, slice(-1, None))):
            if token is not None and ids[place] == [token]:
                raise StageError(
                    f"{self.file.path} puts {getattr(self.config, option)!r} there by itself, and every text would have it "
                    f"twice; leave {option} out, or set special_tokens to false",
                    (option,),
                )

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of records with tokens."""
        text_struct(spec, self.config.field)
        if self.config.pair is not None:
            text_struct(spec, self.config.pair, "pair")
        return self._with_results(
            spec,
            jax.ShapeDtypeStruct((None,), np.dtype(self.config.dtype)),
            jax.ShapeDtypeStruct((None, 2), _INT32),
            jax.ShapeDtypeStruct((None,), _INT32),
        )

    def _with_results(self, batch: Batch, tokens: Any, spans: Any, type_ids: Any) -> Batch:
        """Return the batch, or spec, with the fields that the config asks for."""
        config = self.config
        made = with_result(batch, config.field, config.to, tokens)
        for option, value in (("offsets", spans), ("type_ids", type_ids)):
            if (name := getattr(config, option)) is not None:
                made = with_new_field(made, name, value, (option,))
        return made

    def fingerprint(self) -> dict[str, Any]:
        """Return what a saved state must match: with another tokenizer, the stream is another one."""
        return {"tokenizer": self.file.checksum[:16]}

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with tokens.

        Raises:
            StageError: A value of the field is no text; names its row.
        """
        tokenizer, texts = self.file.tokenizer, self._texts(batch)
        try:
            encoded = self._encoded(tokenizer, texts)
        except Exception as cause:  # any error of the library
            self._require_whole(texts)
            raise self._of_a_text(tokenizer, texts, cause) from cause
        encoded = encoded.between(self._bos, self._eos)
        bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(encoded.lengths, out=bounds[1:])
        tokens = Ragged(encoded.ids.astype(self.config.dtype, copy=False), bounds)
        others = (None if each is None else Ragged(each, bounds) for each in (encoded.spans, encoded.type_ids))
        return self._with_results(batch, tokens, *others)

    def _texts(self, batch: Batch) -> Sequence[Text]:
        field, pair = self.config.field, self.config.pair
        texts = texts_of(value_of(batch, field), field)
        if pair is None:
            return texts
        return list(zip(texts, texts_of(value_of(batch, pair, "pair"), pair), strict=True))

    def _encoded(self, tokenizer: Tokenizer, texts: Sequence[Text]) -> Encoded:
        return tokenizer.encode(
            texts,
            own_special_tokens=self._own_special_tokens,
            with_spans=self.config.offsets is not None,
            with_type_ids=self.config.type_ids is not None,
        )

    def _require_whole(self, texts: Sequence[Text]) -> None:
        fields = [self.config.field] if self.config.pair is None else [self.config.field, self.config.pair]
        for place, field in enumerate(fields):
            require_whole([text if isinstance(text, str) else text[place] for text in texts], field)

    def _of_a_text(self, tokenizer: Tokenizer, texts: Sequence[Text], error: Exception) -> Exception:
        """Return the error that names the first text that fails by itself; ``error`` if none does."""
        for row, text in enumerate(texts):
            try:
                self._encoded(tokenizer, [text])
            except Exception as cause:  # noqa: BLE001 - any error of the library
                return StageError(
                    f"row {row} of field {self.config.field!r} cannot be tokenized by {self.file.path}: {cause}",
                    ("field",),
                )
        return error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenizeText) and (self.config, self.file) == (other.config, other.file)

    def __hash__(self) -> int:
        return hash((self.config, self.file))
