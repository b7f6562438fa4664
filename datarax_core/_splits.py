"""How a source is cut into named parts: shares of one, or numbers of records."""

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate
from typing import Final

import numpy as np

_ROUNDING: Final = 1e-12  # by how much shares such as 0.7, 0.2 and 0.1 may miss 1


def cut(shares: Mapping[str, float], length: int, title: str) -> dict[str, range]:
    """Disjoint ranges of ``length`` places, one after another as they are named; together all of them if shares sum to 1.

    Args:
        shares: Floats are parts of one, integers are numbers of records.
        length: How many places there are.
        title: What errors call the source.

    Raises:
        TypeError: A share is no number, or shares of both kinds are mixed.
        ValueError: There are no shares, one is out of range or leaves a part empty, or they sum to more than there is.
    """
    if not shares:
        raise ValueError(f"a split of {title} needs a share for each part, such as split(train=0.9, test=0.1)")
    kinds = {_is_count(name, share, title) for name, share in shares.items()}
    if len(kinds) > 1:
        listed = ", ".join(f"{name}={share!r}" for name, share in shares.items())
        raise TypeError(
            f"the shares of a split of {title} are all parts of one (floats) or all numbers of records (integers), not both: "
            f"{listed}"
        )
    ends = _ends_of_counts(shares, length, title) if kinds == {True} else _ends_of_parts(shares, length, title)
    parts = {name: range(start, end) for name, start, end in zip(shares, [0, *ends], ends, strict=False)}
    if empty := next((name for name, part in parts.items() if not part), None):
        raise ValueError(
            f"part {empty!r} of {title} would be empty: {shares[empty]!r} of {length} records is none of them; give it more"
        )
    return parts


def _is_count(name: str, share: object, title: str) -> bool:
    is_count = isinstance(share, int | np.integer) and not isinstance(share, bool)
    if not is_count and not isinstance(share, float | np.floating):
        raise TypeError(f"share {name}={share!r} of {title} is no number; give a part of one, or a number of records")
    if is_count and share < 1:  # type: ignore[operator]  # a number, as was just seen
        raise ValueError(f"share {name}={share!r} of {title} is out of range: a number of records is at least 1")
    if not is_count and not 0 < share <= 1:  # type: ignore[operator]  # likewise
        raise ValueError(f"share {name}={share!r} of {title} is out of range: a part of one is more than 0, at most 1")
    return is_count


def _ends_of_counts(shares: Mapping[str, float], length: int, title: str) -> list[int]:
    ends = list(accumulate(map(int, shares.values())))
    if ends[-1] > length:
        raise ValueError(f"the parts of {title} have {ends[-1]} records together, and there are {length}; ask for less")
    return ends


def _ends_of_parts(shares: Mapping[str, float], length: int, title: str) -> list[int]:
    parts = list(map(float, shares.values()))
    sums = [math.fsum(parts[: count + 1]) for count in range(len(parts))]
    if sums[-1] > 1 + _ROUNDING:
        raise ValueError(f"the shares of {title} sum to {sums[-1]!r}, which is more than 1; make them smaller")
    # a fraction: the product of a float and a large length would be off by some records
    return [length if total > 1 - _ROUNDING else round(Fraction(total) * length) for total in sums]
