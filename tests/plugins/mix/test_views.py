"""A view over a mixture is the mixture of that view over each child; views are children like any source."""

from typing import Any

import numpy as np
import pytest

from datarax_core import DataSourceModule, Pipeline


def ids_of(batch: Any) -> list[int]:
    return np.asarray(batch["id"]).tolist()


def even(source: DataSourceModule) -> DataSourceModule:
    """Return the records with an even index."""
    return source[::2]


@pytest.mark.parametrize("kind", ["device", "host", "memory on the host"])
def test_a_mixture_over_views_of_its_children_keeps_weights_key_and_name(child: Any, mix: Any, kind: str) -> None:
    whole = mix({"a": child(0, 40, kind=kind), "b": child(1, 9, kind=kind)}, (0.75, 0.25), seed=3, name="both")
    whole.get_batch(7)
    halves = whole.over_children(even)
    assert (halves.weights, halves.names, halves.name) == (whole.weights, whole.names, "both")
    np.testing.assert_array_equal(halves.order_key_data(), whole.order_key_data())
    assert (halves.access, len(halves), int(halves.index)) == (whole.access, 25, 0)
    by_hand = mix({"a": even(child(0, 40, kind=kind)), "b": even(child(1, 9, kind=kind))}, (0.75, 0.25), seed=3)
    served = [ids_of(batch) for batch in Pipeline(source=halves, batch_size=6, num_epochs=2)]
    assert served == [ids_of(batch) for batch in Pipeline(source=by_hand, batch_size=6, num_epochs=2)]
    assert all(number % 2 == 0 for batch in served for number in batch)


def test_a_mixture_does_not_serve_each_record_once(child: Any, mix: Any) -> None:
    assert mix([child(0, 5), child(1, 5)]).serves_each_once is False


def test_temperature_makes_weights_of_the_new_lengths(child: Any, mix: Any) -> None:
    whole = mix([child(0, 30), child(1, 10)], temperature=1.0)
    assert whole.weights == (0.75, 0.25)
    assert whole.over_children(lambda source: source[:5]).weights == (0.5, 0.5)


def test_an_error_of_a_view_names_the_child(child: Any, mix: Any) -> None:
    whole = mix({"long": child(0, 30), "short": child(1, 10)})
    with pytest.raises(ValueError, match="holds none of its 10 records") as caught:
        whole.over_children(lambda source: source[20:])
    assert caught.value.__notes__[0].startswith("for child 'short' of MixDataSourcesNode")
