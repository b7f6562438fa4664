"""Stages, which transform batches in compiled code or on the host: small immutable configs, found by name."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, PlainValidator, SerializeAsAny, ValidationInfo, WithJsonSchema

from datarax_core.config.base import FrozenConfig, Name, plugin_config, plugin_schema
from datarax_core.extensions.catalog import EntryPointGroup
from datarax_core.extensions.contract import config_plugin_problems, require_contract
from datarax_core.extensions.defaults import made_once
from datarax_core.extensions.known import owners
from datarax_core.extensions.plugin_registry import PluginRegistry

if TYPE_CHECKING:
    from flax import nnx

    from datarax_core.records.spec import Batch, ElementSpec


class Stage(FrozenConfig):
    """Base of stages, which transform batches: a config of validated fields, and the method `__call__`.

    A subclass gives ``type`` its registered name as default and defines `__call__`, which runs in compiled code. A stage with
    parameters or statistics defines `build`, which returns the ``nnx.Module`` that is called in its place.

    With ``on_host: ClassVar = True`` the stage runs on the host, before all compiled stages. It is called with the whole batch
    in read-only NumPy columns, text, objects and `Ragged` columns included, and returns such a batch of as many rows. `build`
    is called with the spec of the columns on the host. With ``on_host = "either"`` it runs on the host if a host stage stands
    behind it.

    Host fields (text, objects, ragged columns), which no device can hold, are not in the batch that a compiled stage is called
    with; ``host_fields`` changes them.

    Core looks for these attributes of a stage, or of what `build` returns; without them the default holds:

    - ``stochastic: bool``: whether it draws random numbers. It is then called with one key per record too; on the host, with
      one ``np.random.Generator`` per record, made when it is first used. Read when a pipeline is made. By default False.
    - ``takes_record_indices: bool``: whether it is also called with the record indices; on the host they are int64. Read when a
      pipeline is made. By default False.
    - ``whole_batch: bool``, of a host stage: whether it must see all records of a batch at once. It is then called on one
      thread, that of the loop or the one that reads ahead, and not in workers. By default False: parts of a batch will do.
    - ``thread_safe: bool``, of a host stage: whether several threads may call it at once. By default True.
    - ``releases_gil: bool``, of a host stage: whether it spends its time in code that releases the interpreter lock, so that
      several threads are tried. By default False.
    - ``element_spec(spec) -> spec``, of a host stage: what comes out, in dtypes of the host, with None for axes that vary.
      Called once, when a pipeline is made. By default the stage is run on one record instead.
    - ``build_on_host(spec, rngs)``, where ``on_host = "either"``: called in place of `build` if it runs on the host. By default
      `build` is called.
    - ``join(following) -> stage | None``, of a host stage that is not stochastic: one stage that does the work of both, is
      called as the following one is, and need not make the columns between them. Called when a run begins, in each process
      that reads. By default both are called.
    - ``fingerprint() -> dict``, of a host stage that works by a file, such as a tokenizer: JSON that a saved state must match,
      such as the file's checksum. Called when a pipeline is made, and when a state is saved or restored. By default only the
      config must match.
    - ``host_fields(fields) -> fields``, of a compiled stage: called with a dict of host fields, nested as the batch is, whose
      values are columns or element specs, and returns the next one; when a pipeline is made, and for each batch on the thread
      of the loop. By default host fields stay as they are.
    - ``before_narrowing(fields) -> fields``, of a compiled stage that moves, leaves out or converts fields: called with a
      `datarax_core.records.StoredField` for each field, nested as the batch is, and returns those of its result;
      ``field.nearest(dtype)`` is a field with the nearest values of a dtype. At the head of a pipeline, where all stages before
      it have the method too, fields that it leaves out or converts are not narrowed first, so that no value of them is refused.
      Called when a run begins: a loop, a `step`, a scan. By default 64-bit fields are narrowed before the stage.
    """

    on_host: ClassVar[bool | Literal["either"]] = False
    """Whether the stage runs on the host, with NumPy columns, or in compiled code, or on either side.

    Called: when a pipeline is made.
    Default: False: the stage runs in compiled code.
    """

    type: Name = Field(description="The registered name of the stage.")

    def build(self, spec: "ElementSpec", rngs: "nnx.Rngs") -> "Callable[..., Batch]":  # noqa: ARG002 - for subclasses
        """Return the callable that a pipeline runs; by default the stage itself. Called once, when the pipeline is built.

        Args:
            spec: Spec of one record before this stage, with the dtypes of the device; host fields and the mask of ``pad_last``
                are included.
            rngs: Random streams of this stage, folded from the pipeline's streams and the stage's place.

        Raises:
            ValueError: The stage cannot work on such records. `datarax_core.stages.field_of` raises it for a missing field.

        Called: once, when a pipeline is made, with the spec at the place of the stage; on the thread that makes it.
        Default: the stage itself.
        """
        return self

    def __call__(self, batch: "Batch", *args: Any, **kwargs: Any) -> "Batch":
        """Return the transformed batch.

        A stage defines ``__call__(batch)``; with ``stochastic`` ``__call__(batch, keys)``, on the host ``(batch, rngs)``. With
        ``takes_record_indices`` the indices are the last argument.

        Called: on the device: while the step is traced by ``jax.jit``, once for each shape of batches, not for each batch. On
            the host: for each batch or part of one, on any thread that reads, several at once, in worker processes, and in
            callbacks of compiled code.
        Default: none; a stage writes it, or `build`.
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


@made_once
def default_stages() -> StageRegistry:
    """Return the registry of the installed stages, read once in a process."""
    return StageRegistry.from_environment()


def _stage(value: Any, info: ValidationInfo) -> Stage:
    """Return the stage that the value of a config field stands for."""
    registry = (info.context or {}).get("stages") or default_stages()
    return plugin_config(value, info, base=Stage, look_up=registry.get, noun="stage", example="rescale")


AnyStage = Annotated[SerializeAsAny[Stage], PlainValidator(_stage), WithJsonSchema(plugin_schema("stage"))]
"""Type of a config field for any stage: a `Stage`, or a mapping with its ``type``."""
