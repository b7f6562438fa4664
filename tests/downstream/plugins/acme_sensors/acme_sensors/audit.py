"""Hooks: what a run did, and the source ``acme_sensors``."""

from typing import Any

from datarax_core import hookimpl

from acme_sensors.source import Sensors

LINES: list[str] = []
"""What happened, in the order in which it did."""


@hookimpl
def datarax_register_sources(registry: Any) -> None:
    registry.register(Sensors)


@hookimpl(wrapper=True)
def datarax_create_source(config: Any) -> Any:
    source = yield
    if isinstance(source, Sensors):
        source.name = source.name or "audited"
    return source


@hookimpl
def datarax_pipeline_opened(pipeline: Any) -> None:
    LINES.append(f"opened {pipeline.source.title} at {pipeline.cursor.position}")


@hookimpl
def datarax_batch_ready(pipeline: Any, step: int, batch: Any) -> None:
    LINES.append(f"batch {step} of {len(next(iter(batch.values())))} at {pipeline.get_state()['position']}")


@hookimpl
def datarax_epoch_finished(epoch: int, stats: dict[str, Any]) -> None:
    LINES.append(f"epoch {epoch} after {stats['records']} records")


@hookimpl
def datarax_pipeline_closed(pipeline: Any) -> None:
    LINES.append(f"closed at {pipeline.cursor.position}")


@hookimpl
def datarax_record_failed(source: Any, index: int, error: Exception) -> str | None:
    LINES.append(f"record {index}: {error}")
    return "raise" if index == 7 else None
