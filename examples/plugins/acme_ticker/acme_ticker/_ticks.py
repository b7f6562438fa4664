"""Ticks: lines ``34200,ACME,12.50`` (second of the day, symbol, price), and the records made of them."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

SPEC = {
    "second": jax.ShapeDtypeStruct((), np.dtype(np.int32)),
    "symbol": jax.ShapeDtypeStruct((), np.dtype(np.int32)),
    "price": jax.ShapeDtypeStruct((), np.dtype(np.float32)),
}
"""Element spec of a tick; ``symbol`` is the place of the symbol in the list of symbols."""


def tick_of(line: str, places: Mapping[str, int]) -> dict[str, Any]:
    """Return the record of a line.

    Args:
        line: The line.
        places: The place of each symbol in the list of symbols.

    Raises:
        ValueError: The line is no tick, or its symbol is not in the list.
    """
    try:
        second, symbol, price = line.strip().split(",")
        numbers = np.int32(int(second)), np.float32(float(price))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{line.strip()!r:.80} is no tick, second,symbol,price") from error
    if symbol not in places:
        raise ValueError(f"the symbol {symbol!r} is not in the list of symbols: {', '.join(places)}")
    return {"second": numbers[0], "symbol": np.int32(places[symbol]), "price": numbers[1]}
