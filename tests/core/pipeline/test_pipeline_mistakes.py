"""Every argument of a pipeline that cannot work is refused, by name and with its value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline

MakeSource = Callable[..., Any]


def keep_all(batch: Any) -> Any:
    return batch


class Ones(nnx.Module):
    def __call__(self, batch: Any) -> Any:
        return {**batch, "ones": np.ones(len(batch["id"]))}


@dataclass
class Unhashable:
    factor: float

    def __call__(self, batch: Any) -> Any:
        return batch


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"batch_size": 0}, ValueError, r"^batch_size is at least 1, not 0$"),
        ({"batch_size": -1}, ValueError, r"^batch_size is at least 1, not -1$"),
        (
            {"batch_size": 2**31},
            ValueError,
            r"^batch_size is at most 2147483647, not 2147483648: rows are counted in 32",
        ),
        ({"batch_size": 4.0}, TypeError, r"^batch_size is an integer, not 4\.0$"),
        ({"batch_size": True}, TypeError, r"^batch_size is an integer, not True$"),
        ({"batch_size": "4"}, TypeError, r"^batch_size is an integer, not '4'$"),
        ({"num_epochs": 0}, ValueError, r"^num_epochs is at least 1, not 0; None is endless$"),
        ({"num_epochs": -1}, ValueError, r"^num_epochs is at least 1, not -1; None is endless$"),
        ({"num_epochs": 1.5}, TypeError, r"^num_epochs is an integer, not 1\.5; None is endless$"),
        ({"drop_last": 1}, TypeError, r"^drop_last is True or False, not 1$"),
        (
            {"pad_last": True},
            TypeError,
            r"^pad_last is the name of the mask's field, such as 'valid', or None, not True$",
        ),
        ({"pad_last": ""}, TypeError, r"^pad_last is the name of the mask's field, such as 'valid', or None, not ''$"),
        ({"pad_last": "valid", "drop_last": True}, ValueError, r"^drop_last and pad_last exclude each other: the last"),
        (
            {"batch_size": 101, "drop_last": True},
            ValueError,
            r"^batch_size=101 with drop_last leaves no batch of the 100 records that EagerSourceBase 'train' serves; make",
        ),
        (
            {"stages": [keep_all, "scale"]},
            TypeError,
            r"^stage 1 is not callable: 'scale'; a stage takes a batch and ret",
        ),
        ({"stages": keep_all}, TypeError, r"^stages is a list of callables, not function$"),
        ({"stages": Ones()}, TypeError, r"^stages is a list of callables, not Ones$"),
        (
            {"stages": [Unhashable(2.0)]},
            TypeError,
            r"^stage 0 \(Unhashable\) has no hash .* @dataclass\(eq=False\) or @da",
        ),
        ({"source": {"id": [1]}}, TypeError, r"^source is a DataSourceModule, such as MemorySource\(.*\), not dict$"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_with_its_value(
    make_source: MakeSource, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Pipeline(**{"source": make_source(name="train"), "batch_size": 32} | options)


@pytest.mark.parametrize(
    ("length", "kind", "message"),
    [
        (0, ValueError, r"^length is at least 1, not 0$"),
        (-2, ValueError, r"^length is at least 1, not -2$"),
        (2.0, TypeError, r"^length is an integer, not 2\.0$"),
        (False, TypeError, r"^length is an integer, not False$"),
    ],
)
def test_the_length_of_a_scan_is_a_count(
    make_source: MakeSource, length: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Pipeline(source=make_source(), batch_size=32).scan(keep_all, length=length)
