"""The conformance tests of sources, for views of windows over records on the device and inside records."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.sources import DataSourceModule
from datarax_core.testing import Shows, SourceConformance

LENGTHS = [7, 3, 12, 9, 4]
INSIDE = "test_window.py::test_windows_are_cut_inside_records_of_one_length_too"


def everything(source: DataSourceModule) -> Any:
    return {name: np.asarray(column).tolist() for name, column in source.fetch(np.arange(len(source))).items()}


def series(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", np.arange(200, dtype=np.int32))
    np.save(folder / "y.npy", -np.arange(200, dtype=np.float32))
    return str(folder)


def episodes(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    for name, sign in (("x", 1), ("y", -1)):
        np.save(folder / f"{name}.npy", sign * np.arange(sum(LENGTHS)))
        np.save(folder / f"{name}.offsets.npy", np.cumsum([0, *LENGTHS]))
    np.save(folder / "n.npy", np.array(LENGTHS))
    return str(folder)


class TestOverRecordsOnTheDevice(SourceConformance):
    expected_length = 40
    expected_records = {
        2: {"x": [10, 11, 12, 13], "targets": [-12, -13, -14, -15]},
        39: {"x": [194, 195, 196, 197], "targets": [-196, -197, -198, -199]},
    }
    shown_elsewhere = {
        "cacheable": "TestInsideRecords",
        "inside": INSIDE,
        "cross": "test_window.py::test_windows_inside_records_and_across_them_are_slices",
        "too_short": "test_window_mistakes.py",
        "length_field": "test_window_mistakes.py",
        "pad_value": "TestInsideRecords",
        "mask_field": "TestInsideRecords",
    }

    def make_config(self, folder: Path) -> dict[str, Any]:
        self.effective = {
            "field": Shows(value="y", at=lambda source: str(source.element_spec())),
            "target_of": Shows(value="x", at=everything),
            "target_field": "next",
            "source": {"type": "memory", "path": series(folder / "other")},
        }
        source = {"type": "memory", "path": series(folder), "shuffle": True, "placement": "device"}
        cut = {"length": 4, "stride": 5, "shift": 2, "target_of": "y", "remainder": "overlap"}
        return {"type": "window", **cut, "source": source}


class TestInsideRecords(SourceConformance):
    expected_length = 11
    expected_records = {
        1: {"x": [3, 4, 5, 6], "y": [-3, -4, -5, -6], "n": 7, "mask": [True] * 4},
        2: {"x": [7, 8, 9, 100], "y": [-7, -8, -9, 100], "n": 3, "mask": [True, True, True, False]},
    }
    shown_elsewhere = {
        **dict.fromkeys(("target_field", "target_of"), "TestOverRecordsOnTheDevice"),
        "inside": INSIDE,
        "cross": "test_window.py::test_windows_inside_records_and_across_them_are_slices",
        "too_short": "test_window_mistakes.py",
        "length_field": "test_window_mistakes.py",
    }

    def make_config(self, folder: Path) -> dict[str, Any]:
        self.effective = {
            "field": Shows(value="y", at=lambda source: str(source.element_spec())),
            "pad_value": Shows(value=7, at=everything),
            "mask_field": "real",
            "source": {"type": "memory", "path": episodes(folder / "other")},
        }
        source = {"type": "memory", "path": episodes(folder), "shuffle": True}
        return {"type": "window", "length": 4, "stride": 3, "remainder": "pad", "pad_value": 100, "source": source}
