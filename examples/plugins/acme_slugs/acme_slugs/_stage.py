"""The stage."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from flax import nnx
from pydantic import Field

from datarax_core import Stage, StageError
from datarax_core.config import LocalFile, Name
from datarax_core.records import Batch, ElementSpec, is_text
from datarax_core.stages import leaf_of, struct_of, with_new_field

from ._slug import slug_of, spellings_in


class AcmeSlugs(Stage):
    """Stage on the host that adds a slug of each text: "Über Äpfel!" becomes "uber-apfel".

    A file may say how characters are spelled, so that it becomes "ueber-aepfel". A text without any letter or digit gets what
    ``empty`` says, and is refused without that.
    """

    type: Literal["acme_slugs"] = "acme_slugs"
    field: Name = Field(description="The field of texts, by dotted name.")
    to: Name = Field(default="slug", description="The name of the new field.")
    spellings: LocalFile | None = Field(
        default=None, description="A file with a character and its spelling on each line, such as: ä ae"
    )
    empty: Name | None = Field(default=None, description="The slug of a text of which nothing is left.")

    on_host: ClassVar[bool] = True

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage with its spellings; the file is read here, once."""
        self.element_spec(spec)
        try:
            return Slugs(self, spellings_in(self.spellings) if self.spellings else {})
        except (OSError, ValueError) as error:
            raise StageError(str(error), ("spellings",)) from error

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec with the new field.

        Raises:
            StageError: There is no such field, it is no text, or the name of the new one is taken.
        """
        struct = struct_of(spec, self.field)
        if struct.shape or not (is_text(struct.dtype) or struct.dtype == object):
            raise StageError(
                f"field {self.field!r} is {struct.dtype}{list(struct.shape)}; slugs are made of texts", ("field",)
            )
        return with_new_field(spec, self.to, jax.ShapeDtypeStruct((), np.dtype(object)), ("to",))


class Slugs:
    """Stage that `AcmeSlugs` builds: it holds the spellings, and pickles to worker processes with them."""

    on_host: ClassVar[bool] = True

    def __init__(self, stage: AcmeSlugs, spellings: Mapping[str, str]) -> None:
        self._stage, self._spellings = stage, dict(spellings)

    @property
    def name(self) -> str:
        """Name in errors."""
        return self._stage.type

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec with the new field."""
        return self._stage.element_spec(spec)

    def fingerprint(self) -> dict[str, Any]:
        """Return a checksum of the spellings, which a saved state must match: the file may change."""
        content = json.dumps(sorted(self._spellings.items())).encode()
        return {"spellings": hashlib.sha256(content).hexdigest()[:16]}

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with a slug of each text."""
        texts = leaf_of(batch, self._stage.field)
        slugs = np.empty(len(texts), object)
        slugs[:] = [self._slug(text) for text in texts]
        return with_new_field(batch, self._stage.to, slugs, ("to",))

    def _slug(self, text: Any) -> str:
        if not isinstance(text, str):
            raise StageError(f"field {self._stage.field!r} holds {text!r:.40}; slugs are made of texts", ("field",))
        slug = slug_of(text, self._spellings) or self._stage.empty
        if slug is None:
            raise StageError(
                f"no letter or digit is left of {text!r:.40}; set empty to the slug of such texts", ("empty",)
            )
        return slug
