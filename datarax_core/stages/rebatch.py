"""A stage that regroups the records of a batch: `Rebatch`."""

from dataclasses import dataclass

import jax

from datarax_core.errors import SpecError
from datarax_core.order.numbers import whole_number
from datarax_core.records.spec import Batch, named_fields


@dataclass(frozen=True, slots=True)
class Rebatch:
    """Stage that makes a batch of groups: each array (N, ...) becomes (N // group_size, group_size, ...), records in order.

    For micro-batches and gradient accumulation: a ``lax.scan`` over the batch then takes one group at a time. The cost is a
    reshape, and gradients flow through it. One element of such a pipeline's ``element_spec()`` is a group. The mask of
    ``pad_last`` is regrouped like every field.

    Args:
        group_size: Records in a group. It must divide the size of every batch, also of a short last batch: drop that batch
            with ``drop_last``, or complete it with ``pad_last``.

    Raises:
        TypeError, ValueError: ``group_size`` is no integer, or less than 1.
    """

    group_size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "group_size", whole_number("group_size", self.group_size, at_least=1))

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch, regrouped.

        Raises:
            SpecError: A field has no rows, or a number of rows that ``group_size`` does not divide.
        """
        for name, array in named_fields(batch).items():
            if not array.ndim:
                raise SpecError(f"Rebatch: field {name!r} is a scalar, which has no records to group")
            if array.shape[0] % self.group_size:
                raise SpecError(
                    f"Rebatch: field {name!r} has {array.shape[0]} rows, which groups of {self.group_size} do not divide; "
                    "choose a batch_size that they divide, and for a short last batch drop_last=True or pad_last='valid'"
                )
        return jax.tree.map(lambda array: array.reshape(-1, self.group_size, *array.shape[1:]), batch)
