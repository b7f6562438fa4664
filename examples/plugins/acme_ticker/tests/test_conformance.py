"""The conformance tests of datarax sources, for recorded ticks."""

from pathlib import Path
from typing import Any

from datarax_core.testing import Damaged, SourceConformance
from recordings import record


class TestAcmeTicker(SourceConformance):
    """All conformance tests, over five files, of which no two have as many ticks."""

    expected_length = 210

    def make_config(self, folder: Path) -> dict[str, Any]:
        return {"type": "acme_ticker", "recording": record(folder / "days", 70, 1, 40, 60, 39), "shuffle": True}

    def make_damaged(self, folder: Path) -> Damaged:
        path = record(folder / "damaged", 70, 30, damaged=75)
        config = {"type": "acme_ticker", "recording": path}
        return Damaged(config=config, record=75, path=Path(path).parent / "day-1.csv.gz")
