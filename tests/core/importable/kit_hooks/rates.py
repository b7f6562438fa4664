"""A hook plugin that is a module: it counts records an epoch."""

from typing import Any

from datarax_core import hookimpl

lines: list[str] = []


@hookimpl
def datarax_epoch_finished(epoch: int, stats: dict[str, Any]) -> None:
    lines.append(f"epoch {epoch}: {stats['records']} records")
