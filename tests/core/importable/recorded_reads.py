"""Data sets that record the calls that read them."""

from typing import Any


class Reads:
    """A data set that records the calls that read it."""

    def __init__(self, elements: list[Any]) -> None:
        self.elements = elements
        self.calls: list[Any] = []

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, index: int) -> Any:
        self.calls.append(index)
        return self.elements[index]


class BatchReads(Reads):
    """A data set that reads a batch by the method of PyTorch and Hugging Face."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.calls.append(indices)
        return [self.elements[index] for index in indices]
