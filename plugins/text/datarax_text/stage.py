"""Base of the stages whose tokenizer is in a file."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from flax import nnx
from pydantic import PrivateAttr

from datarax_core import Stage
from datarax_core.records import Batch, ElementSpec


class MadeStage(Protocol):
    """What is called for a config: the config, and the tokenizer of its file."""

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of records after the stage."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what a saved state must match."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch after the stage."""


class TokenizerStage(Stage):
    """Config of a host stage with a tokenizer; a subclass defines `_with_tokenizer`."""

    on_host: ClassVar[bool] = True

    _made: MadeStage | None = PrivateAttr(default=None)

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - draws nothing
        """Return the stage with its tokenizer, after a check of the file and of the fields."""
        made = self._with_tokenizer()
        made.element_spec(spec)
        return made

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec of records after the stage; the file is read when this, or the stage, is first called."""
        return self._stage().element_spec(spec)

    def fingerprint(self) -> dict[str, Any]:
        """Return what a saved state must match: with another tokenizer, the stream is another one."""
        return self._stage().fingerprint()

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch after the stage that `build` makes."""
        return self._stage()(batch)

    def _stage(self) -> MadeStage:
        """Return the stage of a config that is called by itself, in a `Cache` for example."""
        if self._made is None:
            self._made = self._with_tokenizer()
        return self._made

    def _with_tokenizer(self) -> MadeStage:
        """Return the stage with the tokenizer of its file."""
        raise NotImplementedError
