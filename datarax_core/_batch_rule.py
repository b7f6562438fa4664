"""How a stream is cut into batches."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class BatchRule:
    """Batch size, epochs in a run, and what happens to a last batch that is not full."""

    batch_size: int
    num_epochs: int | None = 1
    drop_last: bool = False
    pad_last: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_size", whole_number("batch_size", self.batch_size, at_least=1))
        if self.num_epochs is not None:
            epochs = whole_number("num_epochs", self.num_epochs, at_least=1, hint="; None is endless")
            object.__setattr__(self, "num_epochs", epochs)
        if not isinstance(self.drop_last, bool):
            raise TypeError(f"drop_last is True or False, not {self.drop_last!r}")
        if self.pad_last is not None and (not isinstance(self.pad_last, str) or not self.pad_last):
            raise TypeError(
                f"pad_last is the name of the mask's field, such as 'valid', or None, not {self.pad_last!r}"
            )
        if self.pad_last and self.drop_last:
            raise ValueError("drop_last and pad_last exclude each other: the last batch is either dropped or completed")

    def run_length(self, epoch_length: int | None) -> int | None:
        """Records of one run, None without end."""
        return None if self.num_epochs is None or epoch_length is None else self.num_epochs * epoch_length

    def num_batches(self, epoch_length: int) -> int | None:
        """Batches of one run, None without end."""
        records = self.run_length(epoch_length)
        if records is None:
            return None
        return records // self.batch_size if self.drop_last else -(-records // self.batch_size)

    def last_size(self, epoch_length: int | None) -> int:
        """Records in the short batch that ends a run; 0 if all of its batches are full."""
        records = None if epoch_length is None else self.run_length(epoch_length)
        return 0 if records is None or self.drop_last or self.pad_last else records % self.batch_size

    def next_size(self, remaining: int | None) -> int:
        """Records in the next batch of a run that has ``remaining`` left; 0 if it is over."""
        if remaining is None or remaining >= self.batch_size:
            return self.batch_size
        return 0 if self.drop_last else max(0, remaining)

    def padded(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(indices, mask): completed with the last of them under ``pad_last``; the mask is true for real records."""
        if self.pad_last is None:
            return indices, None
        real = len(indices)
        missing = self.batch_size - real
        if missing:
            indices = np.concatenate([indices, np.repeat(indices[-1:], missing)])
        return indices, np.arange(self.batch_size) < real

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again. ``num_epochs`` may differ: it ends the stream, it does not change it."""
        return {"batch_size": self.batch_size, "drop_last": self.drop_last, "pad_last": self.pad_last}


def seed_number(seed: Any) -> int:
    """The seed; JAX would take larger ones modulo 2**32, and with them the same stream for two seeds."""
    number = whole_number("seed", seed, at_least=0)
    if number >= 2**32:
        raise ValueError(f"seed is less than 2**32, not {seed!r}; larger ones would give the stream of another seed")
    return number


def whole_number(field: str, value: Any, *, at_least: int, hint: str = "") -> int:
    """The number; refused are smaller ones (``ValueError``), and what is no integer, also 4.0 and True (``TypeError``)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{field} is an integer, not {value!r}{hint}")
    if value < at_least:
        raise ValueError(f"{field} is at least {at_least}, not {value!r}{hint}")
    return int(value)
