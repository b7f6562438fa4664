"""The conformance tests of datarax hook plugins, for the metrics."""

import json
from pathlib import Path
from typing import Any

import pytest

from acme_watch import Metrics
from datarax_core.testing import HookConformance


class TestMetrics(HookConformance):
    """All conformance tests; each checks that a hook wrote its lines."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "metrics.jsonl"

    def make_plugin(self) -> Metrics:
        self.path.unlink(missing_ok=True)
        return Metrics(str(self.path))

    def lines(self, event: str) -> list[dict[str, Any]]:
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return [line for line in map(json.loads, text.splitlines()) if line["event"] == event]

    def check_datarax_epoch_finished(self, plugin: Metrics, run: Any) -> None:  # noqa: ARG002
        assert {line["epoch"] for line in self.lines("epoch")} >= {0, 1}

    def check_datarax_pipeline_closed(self, plugin: Metrics, run: Any) -> None:  # noqa: ARG002
        assert self.lines("closed")

    def check_datarax_record_failed(self, plugin: Metrics, run: Any) -> None:  # noqa: ARG002
        assert self.lines("failed")
