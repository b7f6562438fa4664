"""A child with the fields that its mixture gives its records, for views over the mixture: they see the mixture's fields."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np

from datarax_core.config import StructuralConfig
from datarax_core.records import Batch, Changes, ElementSpec, Ragged
from datarax_core.sources import Access, DataSourceModule, SourceView, Verified

from .chosen_fields import ChosenFields
from .fields import Fields


class MixedChildView(SourceView):
    """The records of a child of a mixture, in its own order, with the fields that the mixture takes, renames and adds.

    Where fields are taken and renamed only, a child on the device stays there; a child with added fields is read by the host.

    Args:
        config: The settings.
        child: The child.
        fields: The fields of the mixture.
        number: Number of the child.
    """

    def __init__(
        self, config: StructuralConfig, child: DataSourceModule, fields: Fields, number: int, **options: Any
    ) -> None:
        super().__init__(config, child, **options)
        self._fields, self._number = fields, number

    def element_spec(self) -> ElementSpec:
        """Return the child's element spec with the fields of the mixture."""
        return self._fields.spec_of(self._number, self.parent.element_spec())

    @property
    def access(self) -> Access:
        """The child's; "host" if fields are added to its records."""
        of_child = self.parent.access
        return "host" if of_child == "device" and self._adds_fields else of_child

    @property
    def varies_by_epoch(self) -> bool:
        """Whether the child's records differ from epoch to epoch."""
        return self.parent.varies_by_epoch

    @property
    def reorders_by_epoch(self) -> bool:
        """Whether a record index of the child stands for another record in another epoch."""
        return self.parent.reorders_by_epoch

    def get_records(self, indices: Any) -> Batch:
        """Return the records at ``indices``, traced or not."""
        if isinstance(indices, jax.core.Tracer):
            return self._completed(self.parent.get_records(indices), len(indices))
        return self._completed(self.read_parent(indices), len(indices))

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records at concrete ``indices`` one by one, as the child returns them, with the mixture's fields."""
        return [self._fields.element(self._number, element) for element in self.parent.get_elements(indices)]

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """Return the records at traced ``indices``, as the child's `fetch_traced` does."""
        if self.access != "device" or self.varies_by_epoch:
            return super().fetch_traced(indices, over_mesh=over_mesh)
        return self._completed(self.parent.fetch_traced(indices, over_mesh=over_mesh), len(indices))

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the records at concrete ``indices``, as the child's `fetch_on_host` does."""
        return self._completed(self.parent.fetch_on_host(indices), len(indices))

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which records at ``indices`` cannot be read; errors name the child's record indices."""
        return self.parent.verify_records(indices)

    @property
    def changes_columns(self) -> bool:
        """False: columns are changed after they are narrowed."""
        return False

    def compiled_records(
        self,
        sharding: jax.sharding.Sharding | None = None,
        changes: Changes | None = None,  # noqa: ARG002 - `changes_columns` is False
    ) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
        """Return the function and the arrays of the child; the function takes the chosen fields of its result."""
        read, arrays = self.parent.compiled_records(sharding)
        chosen = self._fields.chosen[self._number]
        return (read if chosen is None else ChosenRecords(tuple(chosen.stored.items()), read)), arrays

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields at concrete ``indices``."""
        found: dict[str, np.ndarray] = self._completed(self.parent.host_field_records(indices), len(indices))
        return found

    def whole_column(self, field: str) -> np.ndarray | Ragged | None:
        """Return the column of a field over all records, if the child has it."""
        return None if (own := self._own_name(field)) is None else self.parent.whole_column(own)

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,): the lengths of a field, if the child knows them."""
        return None if (own := self._own_name(field)) is None else self.parent.record_lengths(own)

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the child, the fields and its number."""
        return (*super().constructor_data(), self._fields, self._number)

    def over_parents(self, *parents: DataSourceModule) -> Self:
        """Return the same fields of another source."""
        return type(self)(self.config, parents[0], self._fields, self._number, rngs=self.rngs, name=self.name)

    def view_fingerprint(self) -> dict[str, Any]:
        """Return the fields that are taken, by name, and those that are added, with their values."""
        added = {name: value.tolist() for name, value in self._fields.values_of(self._number).items()}
        return {"fields": self._fields.stored_names[self._number], "added": added}

    # -- inside ---------------------------------------------------------------------------------------------------------

    @property
    def _adds_fields(self) -> bool:
        return bool(self._fields.constants[self._number])

    def _completed(self, batch: Any, size: int) -> Any:
        return self._fields.completed(self._number, batch, size)

    def _own_name(self, field: str) -> str | None:
        """Return the child's name of a field; None if the field is added."""
        chosen = self._fields.chosen[self._number] if self._fields.chosen else None
        first, dot, rest = field.partition(".")
        if chosen is None:
            return None if first in self._fields.constants[self._number] else field
        return f"{chosen.stored[first]}{dot}{rest}" if first in chosen.stored else None


@dataclass(frozen=True)
class ChosenRecords:
    """Reads a child on the device in a compiled step, and takes the fields that are chosen."""

    stored: tuple[tuple[str, str], ...]
    read: Callable[[Any, jax.Array], Batch]

    def __call__(self, arrays: Any, indices: jax.Array) -> Batch:
        """Return the records at ``indices`` with the chosen fields."""
        return ChosenFields(dict(self.stored))(self.read(arrays, indices))
