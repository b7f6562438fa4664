"""Some mutants of files of every format, always the same ones: read as before, or refused by an error that names the file.

``make fuzz`` tries others, for as long as one likes.
"""

import json
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_children import PASSED, Outcome, outcomes
from fuzz_format import difference_of, make_files
from mutation import mutated_array, mutated_bytes, mutated_json, mutated_text, place_of

MadeOnce = Callable[[str, Callable[[Path], None]], Path]

BUDGET = {"fuzz_arrayrecord": 8, "fuzz_memory": 20, "fuzz_tfrecord": 10, "fuzz_tfds": 12, "fuzz_config": 20}
"""Mutants of each format of a module."""


@pytest.mark.parametrize("family", BUDGET)
def test_mutants_are_served_or_refused_by_the_name_of_their_file(family: str, made_once: MadeOnce) -> None:
    module = import_module(family)
    folder = made_once("tfds" if family == "fuzz_tfds" else family, lambda folder: make_files(module, folder))
    cases = list(product(module.FORMATS, range(BUDGET[family])))
    found = list(outcomes(family, str(folder), cases, seconds=60))
    assert [str(outcome) for outcome in found if outcome.kind not in PASSED] == []
    assert [(outcome.format, outcome.number) for outcome in found] == cases
    assert {"served", "refused"} == {outcome.kind for outcome in found}


# -- the fuzzer finds what it looks for ------------------------------------------------------------------------------------

FAULTY = """
import os, time
from fuzz_format import Format, require_same

def make(folder):
    (folder / "x.bin").write_bytes(bytes(8))

def change(folder, number):
    (folder / "x.bin").write_bytes(bytes([number]) * 8)
    return f"x.bin, byte 0 became {number}"

def read(folder, way):
    content = (folder / "x.bin").read_bytes()
    match content[0]:
        case 1: return {}["x"]
        case 2: raise FileNotFoundError("no such file")
        case 3: time.sleep(60)
        case 4: os.abort()
        case 5: return bytearray(8 << 30)
        case 6: raise FileNotFoundError(f"no such file: {folder}")
        case 7:
            try:
                bytearray(8 << 30)
            except MemoryError as error:
                raise FileNotFoundError(f"no such file: {folder}") from error
    return content

FORMATS = {"faulty": Format(make, read, change, require_same)}
"""

FINDINGS = {
    0: ("served", ""),
    1: ("raw", "KeyError: 'x' [x.bin, byte 0 became 1]"),
    2: ("raw", "NamelessError: names no file: FileNotFoundError: no such file"),
    3: ("hung", "no end after 2 s"),
    4: ("died", "the process ended, exit code -6"),
    5: ("raw", "MemoryError"),
    6: ("refused", "FileNotFoundError: no such file"),
    7: ("raw", "MemoryError: memory ran out"),
    8: ("raw", "OtherDataError: serves other data"),
}


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the files of a format that has every fault."""
    (tmp_path / "fuzz_faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    make_files(import_module("fuzz_faulty"), tmp_path)
    return tmp_path


def test_faults_are_found_and_said_so_that_they_can_be_tried_again(faulty: Path) -> None:
    found = list(outcomes("fuzz_faulty", str(faulty), [("faulty", number) for number in FINDINGS], seconds=2))
    assert {outcome.number: outcome.kind for outcome in found} == {
        number: kind for number, (kind, _) in FINDINGS.items()
    }
    for outcome in found:
        assert FINDINGS[outcome.number][1] in outcome.detail
    assert "again: make fuzz FORMAT=faulty SEED=8 MINUTES=0" in str(found[8])


def test_an_unchanged_file_that_cannot_be_read_stops_the_fuzzer(faulty: Path) -> None:
    (faulty / "faulty/x.bin").write_bytes(bytes([6]))
    with pytest.raises(RuntimeError, match=r"(?s)fuzz_faulty fails for the unchanged files of .*no such file"):
        list(outcomes("fuzz_faulty", str(faulty), [("faulty", 1)]))


@pytest.mark.parametrize(
    ("mutate", "content"),
    [
        (mutated_bytes, bytes(range(200))),
        (mutated_json, json.dumps({"a": [1, 2, {"b": "c"}], "d": "e"}).encode()),
        (mutated_text, b"a: 1\nb: [x, y]\n"),
        (
            mutated_array,
            b"\x93NUMPY\x01\x00\x36\x00{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }\n" + bytes(12),
        ),
    ],
)
def test_mutants_are_repeatable_and_differ(mutate: Callable[[bytes, int], bytes], content: bytes) -> None:
    mutants = [mutate(content, number) for number in range(100)]
    assert mutants == [mutate(content, number) for number in range(100)]
    assert len(set(mutants)) > 50


def test_places_of_mutants_say_the_first_byte_that_differs() -> None:
    assert place_of(b"abcd", b"abXd") == "byte 2 of 4: 6364 became 5864"
    assert place_of(b"abcd", b"ab") == "byte 2 of 4, now 2: 6364 became "


SAME: list[tuple[Any, Any, str]] = [
    ({"x": np.arange(3)}, {"x": np.arange(3)}, ""),
    ({"x": np.array([np.nan])}, {"x": np.array([np.nan])}, ""),
    ({"x": np.arange(3)}, {"x": np.arange(3.0)}, r".x is int64(3,), other values than float64(3,)"),
    ({"x": np.arange(3)}, {"y": np.arange(3)}, "the top has the keys ['x'], not ['y']"),
    ([b"a", b"b"], [b"a"], " has 2 items, not 1"),
    ({"x": np.array(["a", "b"], object)}, {"x": np.array(["a", "c"], object)}, ".x[1] is 'b', not 'c'"),
]


@pytest.mark.parametrize(("one", "other", "difference"), SAME)
def test_differences_of_served_data(one: Any, other: Any, difference: str) -> None:
    assert difference_of(one, other) == difference


def test_outcomes_are_said_in_one_line_if_they_pass() -> None:
    assert str(Outcome("npz", 3, "served")) == "npz 3 served: "
