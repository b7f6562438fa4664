"""Declarations of an author about a stage: how to make it, the records that it is called with, and what comes out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datarax_core.records.spec import Batch
from datarax_core.registry.stages import Stage, StageRegistry, default_stages
from datarax_core.testing.checks import broken
from datarax_core.testing.options import Shows


class StageDeclarations:
    """Attributes and methods that an author overrides in a subclass of a stage kit. The stage and its records are required."""

    config: Mapping[str, Any] | Stage | None = None
    """The config of the stage under test. Override `make_stage` instead if files must be written first, or for a callable."""

    records: Mapping[str, Any] | None = None
    """Columns with a row for each record: arrays, lists of text or of arrays that differ in length, `Ragged`; dicts of these.

    8 to 100 small records that differ, in their lengths too, show more than equal ones. Override `make_records` to write them.
    """

    expected: Mapping[str, Any] | None = None
    """The batch that the stage makes of the records, all or some of its fields; None accepts any.

    Of a stage that draws random numbers, name the fields that it leaves as they are.
    """

    effective: Mapping[str, Any | Shows] = {}
    """For each option whose effect the kit cannot guess: a value that changes the stage, or `Shows`.

    The kit tries flags, choices and numbers by itself. ``at`` of `Shows` is called with what the config builds.
    """

    shown_elsewhere: Mapping[str, str] = {}
    """For each option whose effect cannot be observed from outside: your test that shows it, ``"test_x.py::test_y"``."""

    @property
    def registry(self) -> StageRegistry:
        """The registry that finds the config's ``type``: all installed stages, unless overridden.

        Called: whenever a config of the stage is validated.
        Default: all installed stages.
        """
        return default_stages()

    def make_stage(self, folder: Path) -> Mapping[str, Any] | Stage | Callable[..., Batch]:  # noqa: ARG002 - for authors
        """Return the config of the stage under test, or a callable that is a stage, after writing its files to ``folder``.

        Called once for each test class.

        Called: by the tests of the kit that need it, once for each test class, on pytest's thread.
        Default: `config`.
        """
        if self.config is None:
            broken(
                f"{type(self).__name__} does not declare how its stage is made; give it "
                'config = {"type": ...}, or define make_stage(self, folder)'
            )
        return self.config

    def make_records(self, folder: Path) -> Mapping[str, Any]:  # noqa: ARG002 - for authors' overrides
        """Return the records that the stage is called with, as `records` describes them. Called once for each test class.

        Called: by the tests of the kit that need it, once for each test class, on pytest's thread.
        Default: `records`.
        """
        if self.records is None:
            broken(
                f"{type(self).__name__} does not declare the records that its stage is called with; give it "
                'records = {"x": np.arange(12.0)}, a column for each field, or define make_records(self, folder)'
            )
        return self.records


class DeviceDeclarations(StageDeclarations):
    """What an author may declare of a stage that runs in compiled code."""

    mixes_records: bool = False
    """Whether the result for a record depends on the others of its batch, as that of mixup does, and of batch statistics."""

    differentiable: Sequence[str] = ()
    """Float fields of the records through which gradients pass. Those of parameters of an ``nnx.Module`` are always tested."""

    frozen: bool = False
    """Whether gradients stop before the parameters on purpose, as those of a frozen encoder."""

    tolerance: float = 1e-5
    """The relative difference by which floats may differ between batch sizes, and between compiled and uncompiled code."""


class HostDeclarations(StageDeclarations):
    """What an author may declare of a stage that runs on the host."""

    damaged: Mapping[str, Any] | None = None
    """A record that the stage refuses, such as bytes that are no picture: a value for each field; None if it refuses none."""

    def make_following(self, folder: Path) -> Any:  # noqa: ARG002 - for authors' overrides
        """Return a host stage, or its config, that the stage under test joins (`Stage.join`); None if it joins none.

        Called: by the test of joined stages.
        Default: None: that test is skipped.
        """
        return None
