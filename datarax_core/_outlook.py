"""What a run over a source will serve, told before anything is read."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .source import DataSourceModule


def outlook(source: "DataSourceModule", num_epochs: int | None) -> str:
    """Records and epochs of a run, in one line."""
    length = source.epoch_length
    if length is None:
        return f"{source.title}: a stream without a length; it is read until it ends"
    kind = "as they come" if source.access == "stream" else source.order_title
    epochs = "without end" if num_epochs is None else f"{num_epochs} epoch{'s' if num_epochs > 1 else ''}"
    total = "" if num_epochs is None else f", {length * num_epochs:,} records in all"
    return f"{source.title}: {length:,} records an epoch, {kind}; {epochs}{total}"
