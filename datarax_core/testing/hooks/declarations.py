"""Declarations of an author about a hook plugin: how to make it, the effect of each of its hooks, and what it may change."""

from collections.abc import Mapping, Sequence
from typing import Any

from datarax_core.testing.checks import broken


class HookDeclarations:
    """Attributes and methods that an author overrides in a subclass of `HookConformance`.

    The plugin is required, and for each hook that it implements a method that shows its effect::

        def check_datarax_epoch_finished(self, plugin, run):
            assert plugin.epochs == [0, 1]

    The kit registers the plugin, serves two epochs of ten small records by a loop, by steps, by a scan, closes, resets and
    restores the pipeline, reads a record that cannot be read, and calls the method with the plugin and a `Run`, which holds
    everything that was announced, and makes further pipelines. The method uses plain ``assert``. The kit calls it also
    with a plugin whose hook was not called, and then the method must fail: a check that cannot fail shows nothing.
    """

    plugin: object | None = None
    """The hook plugin: a module, or an object. Override `make_plugin` instead for an object that keeps what it heard."""

    records: Mapping[str, Any] | None = None
    """Columns of the source that is served, a row a record; None serves ten numbers ``x`` and their names, ``name``."""

    shown_elsewhere: Mapping[str, str] = {}
    """For each hook whose effect cannot be observed in this process: your test that shows it, ``"test_x.py::test_y"``."""

    changes: Sequence[str] = ()
    """Hooks in which the plugin changes on purpose what others get: in ``datarax_batch_ready`` the batch, in
    ``datarax_create_source`` the source, in ``datarax_record_failed`` the answer of the others."""

    waits: bool = False
    """Whether ``datarax_batch_ready`` waits for the values of a batch, as a check for NaN does: the device then waits."""

    keeps_batches: int = 0
    """The number of batches that the plugin holds after they were served, such as the last one for a report."""

    microseconds: float = 1000.0
    """The most that ``datarax_batch_ready`` costs a batch, in microseconds; the median of many calls is compared."""

    def make_plugin(self) -> object:
        """Return the plugin as it is before it heard anything.

        Called: by every test, for a plugin that heard nothing yet.
        Default: `plugin`.
        """
        if self.plugin is None:
            broken(
                f"{type(self).__name__} does not declare its hook plugin; give it plugin = my_module, or define "
                "make_plugin(self), which returns a new object"
            )
        return self.plugin
