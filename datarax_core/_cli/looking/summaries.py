"""Summaries of fields for ``drx peek``: made in one pass over the batches, in memory that does not grow with their number."""

import math
from collections import Counter
from itertools import accumulate
from typing import Any, Final

import numpy as np

_DISTINCT: Final = 1000  # distinct values that are counted; beyond them a summary says only that there are more
_WIDTH: Final = 100  # characters of a line of values
_VALUES: Final = 8  # values shown of a record of varying length
_SHOWN: Final = 40  # characters shown of a text


def is_ragged(column: Any) -> bool:
    """Return whether a column is a `Ragged`, whose module would load JAX."""
    return hasattr(column, "offsets")


def summary_for(column: Any) -> "Summary":
    """Return an empty summary for the field of a column."""
    return Lengths(column) if is_ragged(column) else summary_of(column.dtype)


def summary_of(dtype: np.dtype[Any]) -> "Summary":
    """Return an empty summary for a field of this dtype."""
    if dtype.kind in "mM":
        return Times()
    return Numbers() if np.can_cast(dtype, np.complex128, "same_kind") else Objects()


class Summary:
    """Summary of a field: the number of records, and for a field of one value a record, the counts of its values."""

    def __init__(self) -> None:
        self.records = 0
        self.values: Counter[Any] = Counter()
        self.has_more = False

    def add(self, column: np.ndarray) -> None:
        """Add the field's column of a batch; each row is a record."""
        self.records += len(column)
        self._take(column)

    def as_dict(self) -> dict[str, Any]:
        """Return the facts by name; unknown ones are left out."""
        distinct = {} if not self.values or self.has_more else {"distinct": len(self.values), "counts": self._counts()}
        return {"records": self.records, **self._facts(), **distinct}

    def __str__(self) -> str:
        facts = self._texts()
        if self.has_more:
            facts.append(f"more than {_DISTINCT:,} distinct")
        elif self.values:
            counts = self._counts()
            common = counts if max(counts.values()) > 1 else {}  # if each value occurs once, none is common
            texts = [f"{value} ({count:,})" for value, count in common.items()]
            facts.append(f"{len(self.values):,} distinct" + (f": {_joined(texts)}" if texts else ""))
        return "; ".join(facts)

    def _take(self, column: np.ndarray) -> None:
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        raise NotImplementedError

    def _texts(self) -> list[str]:
        raise NotImplementedError

    def _count(self, values: "Counter[Any]") -> None:
        if not self.has_more:
            self.values += values
            self.has_more = len(self.values) > _DISTINCT

    def _counts(self) -> dict[str, int]:
        """Return the count of each value, the most frequent first, and equally frequent values sorted."""
        ordered = sorted(self.values.items(), key=lambda item: (-item[1], type(item[0]).__name__, item[0]))
        counts: Counter[str] = Counter()
        for value, count in ordered:
            counts[shortened(value)] += count
        return counts


class Numbers(Summary):
    """Summary of numbers and booleans: range, mean and standard deviation of finite values, and shares of NaN and infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = self.nan = self.infinite = 0
        self._finite = 0
        self._least: Any = None
        self._most: Any = None
        self._mean = self._squares = 0.0

    def _take(self, column: np.ndarray) -> None:
        self.numbers += column.size
        values = np.abs(column) if column.dtype.kind == "c" else column
        if values.dtype.kind in "biu":
            if column.ndim == 1:
                self._count(
                    Counter(dict(zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True)))
                )
        else:
            values = values.astype(np.float64)
            self.nan += int(np.isnan(values).sum())
            self.infinite += int(np.isinf(values).sum())
            values = values[np.isfinite(values)]
        if values.size:
            self._merge(values)

    def _merge(self, values: np.ndarray) -> None:
        """Merge values into mean and sum of squares, by the update of Chan, Golub and LeVeque (1983)."""
        least, most = values.min().item(), values.max().item()
        self._least = least if self._least is None else min(self._least, least)
        self._most = most if self._most is None else max(self._most, most)
        with np.errstate(over="ignore", invalid="ignore"):  # squares of numbers near the largest overflow
            numbers = values.astype(np.float64)
            mean, count = float(numbers.mean()), numbers.size
            squares = float(((numbers - mean) ** 2).sum())
        total, distance = self._finite + count, mean - self._mean
        self._squares += squares + distance * distance * self._finite * count / total
        self._mean += distance * count / total
        self._finite = total

    def _facts(self) -> dict[str, Any]:
        facts = {"nan": self.nan / max(self.numbers, 1), "infinite": self.infinite / max(self.numbers, 1)}
        if not self._finite:
            return facts
        std = math.sqrt(self._squares / self._finite)
        return {"min": self._least, "max": self._most, "mean": self._mean, "std": std, **facts}

    def _texts(self) -> list[str]:
        facts = self._facts()
        shares = [f"{share:.2%} {word}" for word in ("nan", "infinite") if (share := facts[word])]
        if "min" not in facts:
            return shares or ["no values"]
        return [f"{facts['min']:.6g} .. {facts['max']:.6g}, mean {facts['mean']:.6g}, std {facts['std']:.6g}", *shares]


class Objects(Summary):
    """Summary of objects: the lengths of text and bytes, and the types of all."""

    def __init__(self) -> None:
        super().__init__()
        self._lengths = Numbers()
        self._types: Counter[str] = Counter()

    def _take(self, column: np.ndarray) -> None:
        values = column.reshape(-1).tolist()
        self._types += Counter(type(value).__name__ for value in values)
        lengths = [len(value) for value in values if isinstance(value, str | bytes)]
        self._lengths.add(np.array(lengths, np.int64).reshape(-1, 1))
        if column.ndim == 1 and len(lengths) == len(values):
            self._count(Counter(values))

    def _facts(self) -> dict[str, Any]:
        lengths = {f"length_{name}": value for name, value in self._lengths._facts().items() if name in _OF_LENGTHS}  # noqa: SLF001 - of this module
        return {"types": dict(self._types), **lengths}

    def _texts(self) -> list[str]:
        facts = self._facts()
        if "length_min" not in facts:
            return [", ".join(f"{name} ({count:,})" for name, count in self._types.items()) or "no values"]
        return [f"lengths {facts['length_min']} .. {facts['length_max']}, mean {facts['length_mean']:.4g}"]


class Times(Summary):
    """Summary of dates and time spans: the first and the last."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: list[Any] = []

    def _take(self, column: np.ndarray) -> None:
        known = column[~np.isnat(column)]
        if known.size:
            ends = [*self._ends, known.min(), known.max()]
            self._ends = [min(ends), max(ends)]

    def _facts(self) -> dict[str, Any]:
        return {name: str(end) for name, end in zip(("min", "max"), self._ends, strict=False)}

    def _texts(self) -> list[str]:
        return [" .. ".join(map(str, self._ends)) or "no values"]


class Lengths(Summary):
    """Summary of records of varying length: the sizes of each axis that varies, and the values of all records."""

    def __init__(self, column: Any) -> None:
        super().__init__()
        self._varying = [axis for axis, size in enumerate(column.record_shape) if size is None]
        self._sizes: list[Counter[int]] = [Counter() for _ in self._varying]
        self._values = summary_of(column.dtype)

    def _take(self, column: Any) -> None:
        own = column.compact()
        sizes = own.lengths[:, None] if own.shapes is None else own.shapes
        for axis, counted in zip(self._varying, self._sizes, strict=True):
            distinct, counts = np.unique(sizes[:, axis], return_counts=True)
            counted.update(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))
        self._values.add(own.values.reshape(-1, 1))

    def _facts(self) -> dict[str, Any]:
        names = ["lengths"] if len(self._varying) == 1 else [f"lengths_of_axis_{axis}" for axis in self._varying]
        sizes = {name: _distribution(counted) for name, counted in zip(names, self._sizes, strict=True) if counted}
        return {**sizes, "values": self._values._facts()}  # noqa: SLF001 - of this module

    def _texts(self) -> list[str]:
        facts = self._facts()
        values = ", ".join(self._values._texts())  # noqa: SLF001 - of this module
        lines = [f"{name.replace('_', ' ')} {_in_words(sizes)}" for name, sizes in facts.items() if name != "values"]
        return [*lines, f"values {values}"]


_BARS: Final = "▁▂▃▄▅▆▇█"
_BINS: Final = 8


def _distribution(counted: "Counter[int]") -> dict[str, Any]:
    """Return least, median, greatest and mean of counted numbers, and how many lie in each of up to eight equal ranges."""
    numbers = np.array(sorted(counted))
    counts = np.array([counted[number] for number in numbers.tolist()])
    least, most, total = int(numbers[0]), int(numbers[-1]), int(counts.sum())
    middle = [
        int(numbers[np.searchsorted(np.cumsum(counts), place, "right")]) for place in ((total - 1) // 2, total // 2)
    ]
    width = -(-(most - least + 1) // _BINS)
    bins = np.bincount((numbers - least) // width, counts).astype(int).tolist()
    histogram = [
        {"from": least + at * width, "to": min(least + (at + 1) * width - 1, most), "records": n}
        for at, n in enumerate(bins)
    ]
    mean = float((numbers * counts).sum() / total)
    return {"min": least, "median": sum(middle) / 2, "max": most, "mean": mean, "histogram": histogram}


def _in_words(sizes: dict[str, Any]) -> str:
    counts = [part["records"] for part in sizes["histogram"]]
    bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // max(counts))] for count in counts)
    return f"{sizes['min']:,} .. {sizes['max']:,}, median {sizes['median']:,g}, mean {sizes['mean']:.4g} {bars}"


_OF_LENGTHS: Final = ("min", "max", "mean")


def shortened(value: Any) -> str:
    """Return a value as one line: a number as it is, text in quotes and cut after 40 characters."""
    if not isinstance(value, str | bytes):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    cut = value[:_SHOWN]
    return repr(cut) + ("..." if len(cut) < len(value) else "")


def _first_records(column: Any) -> str:
    """Return the first values of the first records of a ragged column."""
    if column.ndim > 2:
        record = column[0] if len(column) else np.empty(0)
        sizes = " x ".join(map(str, record.shape))
        return f"{sizes}: [{_joined([shortened(value) for value in record.reshape(-1)[: _WIDTH // 2].tolist()])}]"
    records = [[shortened(value) for value in record[:_VALUES].tolist()] for record in column[: _WIDTH // 4]]
    more = (column.lengths[: len(records)] > _VALUES).tolist()
    texts = [f"[{', '.join([*record, '...'] if cut else record)}]" for record, cut in zip(records, more, strict=True)]
    return _joined(texts, more=len(column) > len(texts))


def first_values(column: Any) -> str:
    """Return the first values of a field: of several records if each has one value, or a list, else of the first record."""
    if is_ragged(column):
        return _first_records(column)
    several = column.ndim == 1
    values = column if several else column[:1].reshape(-1)
    shown = _joined([shortened(value) for value in values[: _WIDTH // 2].tolist()], more=len(values) > _WIDTH // 2)
    return shown if several else f"[{shown}]"


def _joined(texts: list[str], *, more: bool = False) -> str:
    """Join as many texts as fit one line."""
    fitting = [
        text for text, end in zip(texts, accumulate(len(text) + 2 for text in texts), strict=True) if end <= _WIDTH
    ]
    shown = fitting or texts[:1]
    return ", ".join([*shown, "..."] if more or len(shown) < len(texts) else shown)
