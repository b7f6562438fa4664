"""Stages, which transform batches in compiled code or on the host: small immutable configs, found by name."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, PlainValidator, SerializeAsAny, ValidationInfo, WithJsonSchema

from datarax_core.config.base import FrozenConfig, Name, plugin_config, plugin_schema
from datarax_core.extensions.catalog import EntryPointGroup
from datarax_core.extensions.contract import config_plugin_problems, require_contract
from datarax_core.extensions.known import owners
from datarax_core.extensions.plugin_registry import PluginRegistry

if TYPE_CHECKING:
    from flax import nnx

    from datarax_core.records.spec import Batch, ElementSpec


class Stage(FrozenConfig):
    """Base of stages, which transform batches: a config of validated fields, and the method `__call__`.

    A subclass gives ``type`` its registered name as default and defines `__call__`, which runs in compiled code. With
    ``stochastic: ClassVar = True`` it is also called with one key per record, and with
    ``takes_record_indices: ClassVar = True`` with the record indices. A stage with parameters or statistics defines `build`,
    which returns the ``nnx.Module`` that is called in its place.

    With ``on_host: ClassVar = True`` the stage runs on the host, before all compiled stages. It is called with the whole batch
    in read-only NumPy columns, text, objects and `Ragged` columns included, and returns such a batch of as many rows. If it is
    stochastic, it gets a ``np.random.Generator`` for each record, made when it is first used; record indices are int64. A
    method ``element_spec(spec) -> spec`` says what comes out, in dtypes of the host, with None for axes that vary; without it,
    the stage is run on one record. `build` is called with the spec of the columns on the host. With ``on_host = "either"`` it
    runs on the host if a host stage stands behind it; ``build_on_host`` is called in place of `build` then, if it exists.
    A host stage that is not stochastic may define ``join(following) -> stage | None``: one stage that does the work of both, is
    called as the following one is, and need not make the columns between them. One that works by a file, such as a tokenizer,
    may define ``fingerprint() -> dict``, JSON that a saved state must match, such as the file's checksum.

    Host fields (text, objects, ragged columns), which no device can hold, are not in the batch that a compiled stage is called
    with. A stage, or the module that it builds, may define ``host_fields(fields) -> fields`` to change them. It is called with
    a dict of host fields, nested as the batch is, whose values are columns or element specs, and returns the next one.

    A stage that moves, leaves out or converts fields may define ``before_narrowing(fields) -> fields``. It is called with a
    `datarax_core.records.StoredField` for each field, nested as the batch is, and returns those of its result;
    ``field.nearest(dtype)`` is a field with the nearest values of a dtype. At the head of a pipeline, where all stages before
    it have the method too, fields that it leaves out or converts are not narrowed first, so that no value of them is refused.
    """

    on_host: ClassVar[bool | Literal["either"]] = False
    """Whether the stage runs on the host, with NumPy columns, or in compiled code, or on either side."""

    type: Name = Field(description="The registered name of the stage.")

    def build(self, spec: "ElementSpec", rngs: "nnx.Rngs") -> "Callable[..., Batch]":  # noqa: ARG002 - for subclasses
        """Return the callable that a pipeline runs; by default the stage itself. Called once, when the pipeline is built.

        Args:
            spec: Spec of one record before this stage, with the dtypes of the device; host fields and the mask of ``pad_last``
                are included.
            rngs: Random streams of this stage, folded from the pipeline's streams and the stage's place.

        Raises:
            ValueError: The stage cannot work on such records. `datarax_core.stages.field_of` raises it for a missing field.
        """
        return self

    def __call__(self, batch: "Batch", *args: Any, **kwargs: Any) -> "Batch":
        """Return the transformed batch.

        A stage defines ``__call__(batch)``; with ``stochastic`` ``__call__(batch, keys)``, on the host ``(batch, rngs)``. With
        ``takes_record_indices`` the indices are the last argument.
        """
        raise NotImplementedError(
            f"the stage {self.type!r} is run as what its build() makes; call that, or give it to a pipeline"
        )


def host_stage_behind(stages: Sequence[Any]) -> tuple[int, int] | None:
    """Return (number of a host stage, number of a stage before it that runs in compiled code only); None if there are none."""
    sides = [getattr(stage, "on_host", False) for stage in stages]
    last = max((number for number, side in enumerate(sides) if side is True), default=0)
    return next(((last, number) for number in range(last) if sides[number] is False), None)


def host_stage_refusal(name: str, last: int, other: str, number: int) -> str:
    """Return the message about stage ``last``, a host stage, behind stage ``number``, ``other``, of compiled code."""
    return (
        f"{name} runs on the host, and stands behind stage {number} ({other}), which runs in compiled code on the device; put "
        f"stage {last} before it"
    )


class StageRegistry(PluginRegistry[type[Stage]]):
    """The stages that a config can name."""

    group = EntryPointGroup(name="datarax.stages", noun="stage", example="rescale", first_party=owners("stage"))

    def check(self, loaded: object, name: str | None, origin: str) -> type[Stage]:
        """Return ``loaded`` if it is a stage class with the name of its entry point.

        Raises:
            PluginContractError: It is not; lists everything that is missing, with the code to write.
        """
        problems = config_plugin_problems(loaded, Stage, name, ("__call__", "build"))
        require_contract("stage", loaded, name, origin, problems)
        return cast("type[Stage]", loaded)


@cache
def default_stages() -> StageRegistry:
    """Return the registry of the installed stages, read once in a process."""
    return StageRegistry.from_environment()


def _stage(value: Any, info: ValidationInfo) -> Stage:
    """Return the stage that the value of a config field stands for."""
    registry = (info.context or {}).get("stages") or default_stages()
    return plugin_config(value, info, base=Stage, look_up=registry.get, noun="stage", example="rescale")


AnyStage = Annotated[SerializeAsAny[Stage], PlainValidator(_stage), WithJsonSchema(plugin_schema("stage"))]
"""Type of a config field for any stage: a `Stage`, or a mapping with its ``type``."""
