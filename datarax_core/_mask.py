"""The mask of ``pad_last`` behind the stages: always the true one, grouped as the records are."""

from collections.abc import Mapping
from typing import Any

import jax


def regrouped(mask: Any, batch: Mapping[str, Any], field: str) -> Any:
    """The mask bool (N,), in groups (N // g, g) if the stages regrouped the batch like that.

    They did if they regrouped the mask itself; or, where they left it out, if that is how every array of the batch begins.
    """
    if field in batch:
        made = batch[field]
        return mask.reshape(made.shape) if made.size == mask.size else mask
    shapes = {leaf.shape[:2] for leaf in jax.tree.leaves(batch)}
    groups: tuple[int, ...] = shapes.pop() if len(shapes) == 1 else ()
    is_grouped = len(groups) == 2 and groups[0] != mask.size and groups[0] * groups[1] == mask.size
    return mask.reshape(groups) if is_grouped else mask
