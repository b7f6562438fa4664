"""The stage that makes text of tokens."""

from typing import Any, ClassVar, Literal

import jax
import numpy as np
from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from datarax_core import StageError
from datarax_core.config import NOT_NULL, Flag, LocalFile, Name, never
from datarax_core.records import Batch, ElementSpec, Ragged
from datarax_core.stages import struct_of

from .fields import NewName, title_of, token_struct, value_of, with_result
from .files import TokenizerFile
from .stage import TokenizerStage


class Detokenize(TokenizerStage):
    """Host stage that makes a field of text of tokens, ragged or padded, to look at them.

    The text may differ from the one that was tokenized: many tokenizers normalize it, and tokens for unknown text are lost.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "detokenize", "field": "tokens", "tokenizer": "tokenizer.json", "to": "text"}]
        }
    )

    type: Literal["detokenize"] = "detokenize"
    field: Name = Field(description="The field of tokens, by dotted name.")
    tokenizer: LocalFile = Field(
        description="A tokenizer.json, or the model of SentencePiece: a file of this machine; nothing is ever downloaded."
    )
    to: NewName | None = Field(
        default=None,
        description="Name of a new field for the text, beside the tokens; null puts it in place of the tokens.",
    )
    special_tokens: Flag = Field(
        default=False, description="Write special tokens out, in place of leaving them out; of a tokenizer.json only."
    )
    mask_field: Name | None = Field(
        default=None, description="Field of padded tokens that is true for tokens, and false for padding."
    )
    length_field: Name | None = Field(
        default=None,
        description="Field of the number of tokens of each record, in padded tokens; padding is behind them.",
    )

    schema_rules: ClassVar = (never(mask_field=NOT_NULL, length_field=NOT_NULL),)

    @field_validator("length_field")
    @classmethod
    def _require_one_rule(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("mask_field") is not None:
            raise ValueError("mask_field and length_field exclude each other; both say which tokens are padding")
        return value

    def _with_tokenizer(self) -> "DetokenizeTokens":
        return DetokenizeTokens(self, TokenizerFile(self.tokenizer))


class DetokenizeTokens:
    """Stage that `Detokenize` builds: the config, and the tokenizer of its file.

    Args:
        config: Its options.
        file: Its tokenizer.

    Raises:
        StageError: An option asks for what the tokenizer does not have.
    """

    on_host: ClassVar[bool] = True
    name: ClassVar[str] = "detokenize"

    def __init__(self, config: Detokenize, file: TokenizerFile) -> None:
        self.config, self.file = config, file
        if config.special_tokens and not file.tokenizer.names_special_tokens:
            raise StageError(
                f"{file.path} is {file.tokenizer.kind}, whose library always leaves special tokens out; leave the option out",
                ("special_tokens",),
            )

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of records with text."""
        config, tokens = self.config, token_struct(spec, self.config.field)
        for option, kinds, shape in (("mask_field", "b", tokens.shape), ("length_field", "iu", ())):
            if (name := getattr(config, option)) is None:
                continue
            if tokens.shape == (None,):
                raise StageError(
                    f"field {config.field!r} is ragged, and nothing of it is padding; leave {option} out", (option,)
                )
            other = struct_of(spec, name, (option,))
            if other.shape != shape or other.dtype.kind not in kinds:
                wanted = f"bool{list(shape)}" if option == "mask_field" else "one integer a record"
                raise StageError(f"field {name!r} is {title_of(other)}, not {wanted}", (option,))
        return with_result(spec, config.field, config.to, jax.ShapeDtypeStruct((), np.dtype(np.str_)))

    def fingerprint(self) -> dict[str, Any]:
        """Return what a saved state must match."""
        return {"tokenizer": self.file.checksum[:16]}

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with text, as a column of objects.

        Raises:
            StageError: The tokenizer has no token of an id, or a length is past the padded tokens; names the row.
        """
        config = self.config
        rows = self._rows(batch, value_of(batch, config.field))
        texts = np.empty(len(rows), object)
        texts[:] = self.file.tokenizer.decode([row.tolist() for row in rows], special_tokens=config.special_tokens)
        return with_result(batch, config.field, config.to, texts)

    def _rows(self, batch: Batch, tokens: Any) -> list[np.ndarray]:
        """Return the tokens of each record, without padding."""
        if isinstance(tokens, Ragged):
            rows = tokens.to_list()
        elif self.config.mask_field is not None:
            masks = value_of(batch, self.config.mask_field, "mask_field")
            rows = [row[mask] for row, mask in zip(tokens, masks, strict=True)]
        elif self.config.length_field is not None:
            rows = self._cut(tokens, value_of(batch, self.config.length_field, "length_field"))
        else:
            rows = list(tokens)
        for number, row in enumerate(rows):
            self._require_known(row, number)
        return rows

    def _cut(self, tokens: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        size = tokens.shape[1]
        for number in np.flatnonzero((lengths < 0) | (lengths > size)).tolist():
            raise StageError(
                f"row {number} of field {self.config.length_field!r} is {lengths[number]}, and field {self.config.field!r} has "
                f"{size} places for tokens",
                ("length_field",),
            )
        return [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)]

    def _require_known(self, row: np.ndarray, number: int) -> None:
        known = self.file.tokenizer.known
        inside = (row >= 0) & (row < known.size)
        if not inside.all() or not known[row].all():
            unknown = row[~inside | ~known[np.where(inside, row, 0)]][0]
            raise StageError(
                f"row {number} of field {self.config.field!r} has the token {unknown}, and {self.file.path} has tokens from 0 "
                f"to {known.size - 1}; was it made by another tokenizer, or is it padding? mask_field or length_field say so",
                ("field",),
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DetokenizeTokens) and (self.config, self.file) == (other.config, other.file)

    def __hash__(self) -> int:
        return hash((self.config, self.file))
