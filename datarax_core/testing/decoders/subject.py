"""The decoder under test: made as its author declares, with the bytes of some records, and the batch that they hold."""

import functools
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
from pydantic import TypeAdapter

from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec, describe, named_fields
from datarax_core.registry.decoders import AnyDecoder, Decoder
from datarax_core.testing.checks import attempt, broken, not_claimed, require
from datarax_core.testing.columns import columns_of
from datarax_core.testing.options import Look, Shows

from .declarations import DecoderDeclarations
from .examiner import Verdict
from .mutations import Mutation

_ANY_DECODER: TypeAdapter[Decoder] = TypeAdapter(AnyDecoder)


_MOST: Final = 40

_TRIED_SPECS: Final = (
    {"another": jax.ShapeDtypeStruct((3,), np.dtype(np.int16))},
    {"another": jax.ShapeDtypeStruct((), np.dtype(object))},
)
"""Element specs whose decoders have values for options, such as the declared fields, that the kit cannot guess."""


class DecoderSubject:
    """The decoder under test, made as its author declares."""

    noun: Final = "decoder"
    base: Final = "Decoder"
    remedy: Final = ""

    def __init__(self, author: DecoderDeclarations, folder: Path) -> None:
        self.author = author
        self.folder = folder
        self.broken: set[str] = set()
        """The names of the tests that failed."""
        self.verdicts: list[tuple[Mutation, Verdict]] | None = None
        """What became of each damaged record; None until they are tried."""

    # -- config and decoder ---------------------------------------------------------------------------------------------

    @functools.cached_property
    def given(self) -> Mapping[str, Any] | Decoder:
        """The config as the author declares it."""
        return self.author.make_decoder(self.folder)

    @functools.cached_property
    def decoder(self) -> Decoder:
        """The decoder, which is its own config, validated."""
        return self.validated(self.given)

    @property
    def functions(self) -> set[str]:
        """The names of the options that hold functions, which JSON cannot."""
        return {name for name in type(self.decoder).model_fields if callable(getattr(self.decoder, name))}

    def validated(self, config: Mapping[str, Any] | Decoder) -> Decoder:
        """Return a validated decoder: of the class of a decoder that the author gave, or else of the one registered."""
        if isinstance(self.given, Decoder) and isinstance(config, Mapping):
            return type(self.given).model_validate(dict(config))  # `FunctionDecoder`, for one, is in no registry
        return _ANY_DECODER.validate_python(config, context={"decoders": self.author.registry})

    @property
    def config(self) -> Decoder:
        """The decoder: it is its own config."""
        return self.decoder

    def require_config(self) -> None:
        """Skip the test if the decoder holds functions: no config file describes it."""
        if self.functions:
            not_claimed(
                f"{self.title} holds functions ({', '.join(sorted(self.functions))}), which no config file names"
            )

    def observed(self, config: Decoder | None, at: Look | None) -> Any:
        """Return what ``at`` returns for a decoder, or what it decodes of the records, and writes; None is that under test."""
        decoder = self.decoder if config is None else config
        if at is not None:
            return at(decoder)
        spec, refused = attempt(lambda: spec_of_records(decoder, self.records))
        decoded, no_batch = attempt(lambda: decoder.decode(self.records, spec))
        written = [attempt(lambda: decoder.encode(batch)) for batch in (self.batch, decoded)]  # noqa: B023
        return [
            "no spec" if refused else describe(spec),
            "nothing" if no_batch else decoded,
            *("nothing" if error else records for records, error in written),
        ]

    def usual_trials(self, option: str) -> Sequence[Shows] | None:
        """Return the values of an option, such as that of the declared fields, of decoders that `for_spec` makes."""
        current, found = getattr(self.decoder, option), []
        for spec in _TRIED_SPECS:
            fitted, _ = attempt(lambda: type(self.decoder).for_spec(spec))  # noqa: B023
            if fitted is not None and getattr(fitted, option) not in (current, None):
                found.append(Shows(value=getattr(fitted, option)))
        return found or None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of such decoders."""
        return type(self.decoder).model_json_schema()

    def in_whole_config(
        self,
        fields: dict[str, Any],
        refusal_of: Callable[[Mapping[str, Any]], str] | None = None,  # noqa: ARG002 - for sources and stages
    ) -> dict[str, Any]:
        """Return the options: a decoder has a schema of its own."""
        return fields

    @property
    def title(self) -> str:
        """The name of the decoder in messages."""
        return f"decoder {self.decoder.type!r}"

    # -- records ----------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def declared_batch(self) -> Batch | None:
        """The batch that the author declares, in columns; None if none."""
        batch = self.author.make_batch(self.folder)
        return None if batch is None else columns_of(batch, type(self.author).__name__)

    @functools.cached_property
    def records(self) -> list[bytes]:
        """The bytes of the records: those that the author declares, or those that the decoder writes of the batch."""
        records: Sequence[bytes] = list(self.author.make_records(self.folder))
        if not records:
            if self.declared_batch is None:
                broken(
                    f"{type(self.author).__name__} declares no records; give it batch = {{...}}, columns that the decoder "
                    "writes and reads, or records = [...], the bytes of some records"
                )
            records = self.decoder.encode(self.declared_batch)
        require(
            all(type(record) is bytes for record in records),
            f"{self.title} is tested with records that are bytes, but found "
            f"{next((type(record).__name__ for record in records if type(record) is not bytes), '')}; return bytes(record)",
        )
        require(
            len(set(records)) > 1,
            f"{type(self.author).__name__} declares {len(set(records))} record; give it 2 to 100 that differ",
        )
        return list(records)

    @functools.cached_property
    def kept(self) -> list[int]:
        """The places of the records whose bytes are held after they were decoded, each by itself.

        The first calls of all tell: later ones find in a cache what it holds.
        """
        rows = [row for row, record in enumerate(self.records[:_MOST]) if len(record) > 1]  # Python shares shorter ones
        records = [bytes(bytearray(record)) for record in self.records[:_MOST]]
        before = [sys.getrefcount(record) for record in records]
        for row in range(len(records)):
            self.decoder.decode(records[row : row + 1], self.decoder.spec_from(records[row]))
        after = [sys.getrefcount(record) for record in records]
        if after != before:
            gc.collect()
            after = [sys.getrefcount(record) for record in records]
        return [row for row in rows if after[row] > before[row]]

    @functools.cached_property
    def spec(self) -> ElementSpec:
        """The element spec, found as a source does."""
        return spec_of_records(self.decoder, self.records)

    @functools.cached_property
    def decoded(self) -> Batch:
        """The records, decoded at once."""
        return self.decoder.decode(self.records, self.spec)

    @property
    def batch(self) -> Batch:
        """The batch that is written and read: the declared one, or what the records hold."""
        return self.decoded if self.declared_batch is None else self.declared_batch

    @property
    def is_ragged(self) -> bool:
        """Whether a column of the batch is ragged."""
        return any(isinstance(column, Ragged) for column in named_fields(self.batch).values())

    # -- claims -----------------------------------------------------------------------------------------------------------

    def require_writes(self) -> None:
        """Skip the test if the decoder does not claim to write."""
        if type(self.decoder).encode is Decoder.encode:
            not_claimed(f"{self.title} does not claim to write: it defines no encode()")
        if self.declared_batch is None and self._refusal:
            not_claimed(f"{self.title} with this config only reads: {self._refusal}; declare a batch to test writing")

    @functools.cached_property
    def _refusal(self) -> str:
        """Why the decoder does not write what it decodes of the records; "" if it does."""
        try:
            self.decoder.encode(self.decoded)
        except (ValueError, NotImplementedError) as refused:
            return str(refused) or type(refused).__name__
        except Exception:  # noqa: BLE001 - a test of writing reports it
            return ""
        return ""


def spec_of_records(decoder: Decoder, records: Sequence[bytes], first: int = 0) -> ElementSpec:
    """Return the element spec of records, found as a source does: that of one, with None for axes in which others differ."""
    spec = decoder.element_spec()
    if spec is not None:
        return spec
    spec = decoder.spec_from(records[first])
    for record in records:
        spec = decoder.covering(spec, record)
    return spec
