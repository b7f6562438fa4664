"""What a source says of what it will serve, and of what it has."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .capabilities import Access
    from .order import Order


class Outlook:
    """The part of a source that speaks of it, in words and counts; nothing is read for it."""

    if TYPE_CHECKING:  # what the source itself brings
        is_random_order: bool

        @property
        def title(self) -> str: ...
        @property
        def access(self) -> Access: ...
        @property
        def epoch_length(self) -> int | None: ...
        def order(self) -> Order: ...

    @property
    def order_title(self) -> str:
        """What reports call the order: ``shuffled`` or ``in sequence``, and which shard of it."""
        order = self.order()
        shard = f", shard {order.shard} of {order.num_shards}" if order.num_shards > 1 else ""
        return f"{'shuffled' if self.is_random_order else 'in sequence'}{shard}"

    def plan(self, num_epochs: int | None = 1) -> str:
        """What a run of ``num_epochs`` epochs (None is endless) serves."""
        length = self.epoch_length
        if length is None:
            return f"{self.title}: a stream without a length; it is read until it ends"
        kind = "as they come" if self.access == "stream" else self.order_title
        epochs = "without end" if num_epochs is None else f"{num_epochs} epoch{'s' if num_epochs > 1 else ''}"
        total = "" if num_epochs is None else f", {length * num_epochs:,} records in all"
        return f"{self.title}: {length:,} records an epoch, {kind}; {epochs}{total}"

    def stats_at(self, position: int) -> dict[str, Any]:  # noqa: ARG002 - what a subclass needs
        """What is known of the records before ``position``, for `Pipeline.stats`; of a mixture, the counts by child."""
        return {}
