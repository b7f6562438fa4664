"""Live ticks, sent by a server of the test."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from acme_ticker import AcmeTickerLive, AcmeTickerLiveConfig
from datarax_core import Pipeline, RecordError, StateError

Serve = Callable[..., AcmeTickerLive]


@pytest.fixture
def live() -> Iterator[Serve]:
    """Return ``live(lines, then_wait=...)``: a stream of a server that sends these lines to one client."""
    over, threads, sources = threading.Event(), [], []

    def served(lines: list[str], *, then_wait: bool = False, timeout: float | None = 20.0) -> AcmeTickerLive:
        server = socket.create_server(("127.0.0.1", 0))

        def send() -> None:
            with server, server.accept()[0] as client:
                client.sendall("".join(f"{line}\n" for line in lines).encode())
                if then_wait:
                    over.wait(20)

        threads.append(threading.Thread(target=send))
        threads[-1].start()
        port = server.getsockname()[1]
        config = AcmeTickerLiveConfig(host="127.0.0.1", port=port, symbols=("ACME",), timeout=timeout)
        sources.append(AcmeTickerLive(config))
        return sources[-1]

    yield served
    over.set()
    for source in sources:
        source.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def ticks(count: int) -> list[str]:
    return [f"{tick},ACME,12.5" for tick in range(count)]


def test_ticks_are_served_until_the_other_side_ends(live: Serve) -> None:
    pipeline = Pipeline(source=live(ticks(10)), batch_size=4)
    assert [batch["second"].tolist() for batch in pipeline] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_second_loop_goes_on_where_the_first_was_left(live: Serve) -> None:
    pipeline = Pipeline(source=live(ticks(10)), batch_size=4)
    first, second = (next(iter(pipeline))["second"].tolist() for _ in range(2))
    assert (first, second) == ([0, 1, 2, 3], [4, 5, 6, 7])
    pipeline.close()


def test_stop_ends_a_loop_that_waits_on_another_thread(live: Serve) -> None:
    source = live(ticks(6), then_wait=True)
    served: list[int] = []
    first = threading.Event()

    def loop() -> None:
        for batch in Pipeline(source=source, batch_size=4):
            served.extend(batch["second"].tolist())
            first.set()

    thread = threading.Thread(target=loop)
    thread.start()
    assert first.wait(20)
    source.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert served[:4] == [0, 1, 2, 3]


def test_close_ends_the_connection(live: Serve) -> None:
    source = live(ticks(4), then_wait=True)
    source.get_batch(4)
    assert source.is_reading
    source.close()
    assert not source.is_reading


def test_no_tick_for_a_while_is_an_error(live: Serve) -> None:
    source = live(ticks(1), then_wait=True, timeout=0.05)
    source.get_batch(1)
    with pytest.raises(TimeoutError, match=r"no tick came from 127.0.0.1:\d+ for 0.05 s; .* A greater timeout"):
        source.get_batch(1)


def test_a_line_that_is_no_tick_is_named(live: Serve) -> None:
    source = live([*ticks(2), "hello"])
    source.get_batch(2)
    with pytest.raises(RecordError, match=r"tick 2 from 127.0.0.1:\d+ cannot be read: 'hello' is no tick"):
        source.get_batch(1)


def test_nobody_at_the_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    source = AcmeTickerLive(AcmeTickerLiveConfig(host="127.0.0.1", port=port, symbols=("ACME",)))
    with pytest.raises(ConnectionError, match=rf"cannot connect to 127.0.0.1:{port}: .*; start what sends the ticks"):
        source.get_batch(1)


def test_it_has_no_state_and_no_second_epoch(live: Serve) -> None:
    source = live(ticks(3))
    with pytest.raises(StateError, match="is live"):
        source.get_state()
    list(source)
    with pytest.raises(NotImplementedError, match="cannot start over"):
        source.reset()


def test_values_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"symbols\n.* at least 1 item"):
        AcmeTickerLiveConfig(port=4000, symbols=())
    with pytest.raises(ValueError, match=r"timeout\n.* greater than 0"):
        AcmeTickerLiveConfig(port=4000, symbols=("ACME",), timeout=0.0)
