"""What a process can do that has imported a source and nothing else: modules of core are imported when they are first used."""

import subprocess
import sys

import pytest

BEGIN = """
import numpy as np
from datarax_memory import MemorySource, MemorySourceConfig
source = MemorySource(MemorySourceConfig(), {"x": np.arange(10), "label": np.arange(10) % 2})
"""


@pytest.mark.parametrize(
    "statement",
    [
        "print(len(source[2:5]))",
        "print(len(source[[0, 1, 2]]))",
        "print(len(source.where(label=1)) - 2)",
        "print(len(source.filter(lambda batch: batch['x'] < 3)))",
        "print(len(source.split(a=0.3, b=0.7)['a']))",
        "import pickle; print(len(pickle.loads(pickle.dumps(source[2:5]))))",
        "print(len(next(iter(__import__('datarax_core').Pipeline(source=source, batch_size=3)))['x']))",
    ],
)
def test_parts_of_a_source_need_no_import_of_their_own(statement: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN + statement], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
