"""An error in a host callback is raised by the program's caller as the callback raised it."""

import threading
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import DataSourceModule, NarrowingError, Pipeline, StructuralConfig, original_errors
from datarax_core.devices.callbacks import raising_original


class Failing(DataSourceModule):
    """Record 5 cannot be read, record 9 does not fit a device."""

    def __len__(self) -> int:
        return 10

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.int64)}

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        if 5 in indices:
            error = OSError("the disk\nis gone")
            error.add_note("look behind the sofa")
            raise error from FileNotFoundError("part-5")
        return {"id": np.asarray(indices, np.int64) + 2**40 * (indices == 9)}


@pytest.fixture(scope="module")
def batch_at() -> Any:
    source = Failing(StructuralConfig(), name="train")
    return jax.jit(lambda start: source.get_batch_at(start, 2))


def test_the_results_are_those_of_the_program(batch_at: Any) -> None:
    assert raising_original(batch_at, 2)["id"].tolist() == [2, 3]


def test_the_error_keeps_its_class_cause_notes_and_traceback(batch_at: Any) -> None:
    with pytest.raises(OSError, match=r"^the disk\nis gone\nlook behind the sofa$") as caught:
        raising_original(batch_at, 4)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.__context__ is None
    assert caught.value.__notes__ == ["look behind the sofa"]
    assert "get_records" in [entry.name for entry in caught.traceback]


def test_a_value_that_does_not_fit_is_refused_with_its_record_under_a_trace(batch_at: Any) -> None:
    message = rf"^field 'id' of Failing 'train' is int64 and {2**40 + 9} \(record 9\) does not fit int32"
    with pytest.raises(NarrowingError, match=message):
        raising_original(batch_at, 8)


def test_the_error_is_found_under_scan() -> None:
    source = Failing(StructuralConfig())

    @jax.jit
    def total() -> Any:
        return jax.lax.scan(lambda c, s: (c + source.get_batch_at(s, 1)["id"][0], s), 0, np.arange(10))

    with pytest.raises(OSError, match=r"^the disk\nis gone\nlook behind the sofa$"):
        raising_original(total)


def test_a_block_raises_the_error_of_a_users_own_program(batch_at: Any) -> None:
    with pytest.raises(OSError, match=r"^the disk\nis gone\nlook behind the sofa$") as caught, original_errors():
        jax.block_until_ready(batch_at(4))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.__suppress_context__
    with pytest.raises(ZeroDivisionError), original_errors():
        1 // 0  # noqa: B018 - raises
    with original_errors():
        assert batch_at(2)["id"].tolist() == [2, 3]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_ends_a_scan(kind: type[BaseException], make_host_source: Any) -> None:
    class Ending(type(make_host_source(1))):  # type: ignore[misc]  # a class that is made by a fixture
        def get_records(self, indices: Any) -> Any:
            if 8 in indices:
                raise kind
            return super().get_records(indices)

    pipeline = Pipeline(source=Ending(StructuralConfig(), 20), batch_size=4)
    with pytest.raises(kind):
        pipeline.scan(lambda batch: batch["id"], length=3)
    assert pipeline.scan(lambda batch: batch["id"], length=2).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_other_errors_of_a_program_are_unchanged() -> None:
    def fail(_: Any) -> Any:
        raise ValueError("not the source's")

    program = jax.jit(lambda x: jax.pure_callback(fail, jax.ShapeDtypeStruct((), np.float32), x))
    with pytest.raises(Exception, match="not the source's") as caught:
        raising_original(program, 1.0)
    assert "callback" in str(caught.value)
    with pytest.raises(ZeroDivisionError, match="division"):
        raising_original(lambda: 1 // 0)


def test_programs_on_several_threads_raise_their_own_errors(batch_at: Any) -> None:
    raised: dict[int, set[str]] = {start: set() for start in (0, 4, 8)}
    ready = threading.Barrier(3)

    def work(start: int) -> None:
        ready.wait()
        for _ in range(20):
            try:
                raising_original(batch_at, start)
            except (OSError, NarrowingError) as error:
                raised[start].add(type(error).__name__)

    threads = [threading.Thread(target=work, args=(start,)) for start in raised]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == {0: set(), 4: {"OSError"}, 8: {"NarrowingError"}}
