"""The conformance tests of sources, for views that choose records."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.testing import Shows, SourceConformance


def write(folder: Path, length: int) -> str:
    """Write records with their number, a class, and tokens; return the folder."""
    folder.mkdir()
    ids = np.arange(length, dtype=np.int32)
    lengths = ids % 3
    columns = {
        "id": ids,
        "label": ids % 4,
        "tokens": np.repeat(ids, lengths),
        "tokens.offsets": np.cumsum([0, *lengths]),
    }
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    return str(folder)


def numbers(source: Any) -> list[int]:
    """Return the numbers of all records, by record index."""
    found: list[int] = source.fetch(np.arange(len(source)))["id"].tolist()
    return found


class TestPart(SourceConformance):
    expected_length = 45

    def make_config(self, folder: Path) -> dict[str, Any]:
        source = {"type": "memory", "path": write(folder / "rows", 60), "shuffle": True, "placement": "device"}
        other = {"type": "memory", "path": write(folder / "other", 90)}
        np.save(folder / "mask.npy", np.arange(60) % 2 == 0)
        (folder / "rows.txt").write_text("3\n5\n30\n")
        ways = {"split": None, "part": None, "seed": None, "stratify": None}
        self.effective = {
            "indices": Shows(value=[3, 9], needs=ways),
            "slice": Shows(value=[3, None], needs=ways),
            "mask": Shows(value=str(folder / "mask.npy"), needs=ways),
            "file": Shows(value=str(folder / "rows.txt"), needs=ways),
            "fold": Shows(value={"of": 3, "held_out": 1}, needs={"split": None, "part": None}),
            "split": Shows(value={"train": 0.5}, needs={"part": "train"}),
            "part": "test",
            "seed": 1,
            "stratify": Shows(value=None, at=numbers),
            "shuffle": False,
            "source": other,
        }
        split = {"split": {"train": 0.75, "test": 0.2}, "part": "train", "stratify": "label", "seed": 0}
        return {"type": "subset", **split, "source": source}


class TestGroup(SourceConformance):
    expected_length = 15
    expected_records = {0: {"id": 2, "label": 2}, 14: {"id": 58, "tokens": [58]}}

    def make_config(self, folder: Path) -> dict[str, Any]:
        source = {"type": "memory", "path": write(folder / "rows", 60), "shuffle": True, "placement": "host"}
        self.effective = {
            "by": Shows(value="id"),
            "group": 3,
            "shuffle": False,
            "source": {"type": "memory", "path": write(folder / "other", 90)},
        }
        return {"type": "groups", "by": "label", "group": 2, "source": source}


class TestFilter(SourceConformance):
    expected_length = 20
    expected_records = {1: {"id": 5, "label": 1, "tokens": [5, 5]}}

    def make_config(self, folder: Path) -> dict[str, Any]:
        source = {"type": "memory", "path": write(folder / "rows", 60), "shuffle": True, "placement": "device"}
        self.effective = {
            "where": {"id": {"min": 3, "max": 20}},
            "shuffle": False,
            "source": {"type": "memory", "path": write(folder / "other", 90)},
        }
        where = {"label": [1, 3], "tokens": {"length": {"min": 1}}}
        return {"type": "filter", "where": where, "source": source}
