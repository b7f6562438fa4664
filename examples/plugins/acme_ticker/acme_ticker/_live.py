"""The stream of live ticks."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

import jax
from flax import nnx

from datarax_core import RecordError, SourceConfig, StreamingSourceBase
from datarax_core.sources import HostState

from ._config import AcmeTickerLiveConfig
from ._ticks import SPEC, tick_of


class AcmeTickerLive(StreamingSourceBase):
    """The ticks that an exchange sends, line by line, until it ends the connection or `stop` is called.

    What was sent is gone, so that the stream is live: it has no length, no state, and nothing is read ahead. It connects when
    the first tick is read.

    Args:
        config: Config of the source.
        rngs: Not used; every source takes it.
        name: Name of the source in errors.
    """

    config_class: ClassVar[type[SourceConfig]] = AcmeTickerLiveConfig
    config: AcmeTickerLiveConfig
    is_live: ClassVar[bool] = True

    def __init__(self, config: AcmeTickerLiveConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(config, rngs=rngs, name=name)
        self._line = _Line()

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return dtype and shape of each field; no tick is waited for."""
        return dict(SPEC)

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - a live stream has one epoch
        """Yield the ticks as they come. Closing the iterator closes the connection.

        Raises:
            ConnectionError: Nobody answers at host and port.
            TimeoutError: No tick came for ``timeout`` seconds.
            RecordError: A line is no tick.
        """
        places = {symbol: place for place, symbol in enumerate(self.config.symbols)}
        with self._connected() as connection, connection.makefile("r", encoding="utf-8") as lines:
            for number in self._line.numbers():
                line = self._next_line(lines)
                if not line:
                    return
                try:
                    yield tick_of(line, places)
                except ValueError as error:
                    message = f"tick {number} from {self._address} cannot be read: {error}"
                    raise RecordError(message, record=number, reason=str(error)) from error

    def stop(self) -> None:
        """End the stream: a loop that waits for a tick, on any thread, serves what has arrived, and ends."""
        self._line.shut()

    @property
    def _address(self) -> str:
        return f"{self.config.host}:{self.config.port}"

    def _connected(self) -> socket.socket:
        try:
            return self._line.open(self.config.host, self.config.port, self.config.timeout)
        except OSError as error:
            raise ConnectionError(
                f"{self.title} cannot connect to {self._address}: {error}; start what sends the ticks, or correct host and port"
            ) from error

    def _next_line(self, lines: Any) -> str:
        """Return the next line; "" at the end of the connection."""
        try:
            line: str = lines.readline()
        except TimeoutError as error:
            raise TimeoutError(
                f"no tick came from {self._address} for {self.config.timeout:g} s; is the exchange open? "
                "A greater timeout waits longer, null for ever"
            ) from error
        return line


class _Line(HostState):
    """The connection of a stream, outside of the nnx graph; a copy of the stream makes one of its own."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._received = 0

    def open(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """Connect, and return the connection."""
        self._connection = socket.create_connection((host, port), timeout)
        return self._connection

    def shut(self) -> None:
        """Shut the connection down: whoever reads it finds its end."""
        if self._connection is not None:
            with suppress(OSError):  # it is closed already
                self._connection.shutdown(socket.SHUT_RDWR)

    def numbers(self) -> Iterator[int]:
        """Yield the number of each tick, counted over all connections."""
        while True:
            yield self._received
            self._received += 1
