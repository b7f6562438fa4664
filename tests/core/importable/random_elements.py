"""Elements that Grain augments at random, for sources that worker processes unpickle."""

from typing import Any

import numpy as np


def numbered(number: Any) -> dict[str, Any]:
    """Return an element with its number."""
    return {"id": np.int32(number)}


def augmented(element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return the element with a random number."""
    return {**element, "noise": np.float32(rng.random())}
