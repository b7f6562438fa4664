"""Descriptions of data sets: dicts whose entries are attributes too, as in TFDS's ``DatasetInfo``."""

from collections.abc import Mapping
from typing import Any


class SplitInfo(dict[str, Any]):
    """The description of a split: ``num_records``, ``num_bytes``, ``num_files``; also as attributes."""

    @property
    def num_examples(self) -> int:
        """Number of records, by TFDS's name."""
        return int(self["num_records"])

    def __getattr__(self, name: str) -> Any:
        return _entry(self, name)


class DataSetInfo(dict[str, Any]):
    """The description of a data set: a dict that prints and compares as one, with its entries as attributes.

    ``splits`` maps names of splits to `SplitInfo`. ``features`` as an attribute is the object that describes the fields, such
    as TFDS's ``FeaturesDict``, or the element spec; as an entry, where there is one, it is text.

    Args:
        entries: The description, in a form that JSON can hold but for the element spec.
        features: The object that describes the fields; None is the element spec.
    """

    def __init__(self, entries: Mapping[str, Any], *, features: Any = None) -> None:
        super().__init__(entries)
        if "splits" in self:
            self["splits"] = {name: SplitInfo(split) for name, split in self["splits"].items()}
        self._features = features

    @property
    def features(self) -> Any:
        """The object that describes the fields."""
        return self["element_spec"] if self._features is None else self._features

    @property
    def num_examples(self) -> int | None:
        """Number of records that are served, by TFDS's name; None if it is unknown."""
        count: int | None = self["num_records"]
        return count

    def __getattr__(self, name: str) -> Any:
        return _entry(self, name)


def _entry(info: Mapping[str, Any], name: str) -> Any:
    if name.startswith("_") or name not in info:
        raise AttributeError(f"a {type(info).__name__} has no {name!r}; its entries are {', '.join(info)}")
    return info[name]
