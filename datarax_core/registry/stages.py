"""Stages by name: what is made of each batch, as a small immutable config that a file can name."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from pydantic import Field, PlainValidator, SerializeAsAny, ValidationInfo, WithJsonSchema

from datarax_core.config.base import FrozenConfig, Name, plugin_config, plugin_schema
from datarax_core.extensions.catalog import EntryPointGroup
from datarax_core.extensions.contract import config_plugin_problems, require_contract
from datarax_core.extensions.plugin_registry import PluginRegistry

if TYPE_CHECKING:
    from flax import nnx

    from datarax_core.records.spec import Batch, ElementSpec


_FIRST_PARTY: Final = dict.fromkeys(("cast", "one_hot", "rename", "rescale", "select"), "datarax-core")


class Stage(FrozenConfig):
    """What is made of a batch: fields that are validated, and the method that does it.

    An author gives ``type`` its registered name as default, and writes `__call__`, which runs compiled and may be whatever
    a pipeline takes as a stage: with ``stochastic: ClassVar = True`` it is called with a key for each record besides, and
    with ``takes_record_indices: ClassVar = True`` with their indices. A stage with parameters or statistics writes `build`,
    which makes the ``nnx.Module`` that is called in its place.

    Fields that no device has (text, bytes, objects) ride beside the batch and are not in what a stage is called with. A stage,
    or what it builds, that has a method ``host_fields(fields) -> fields`` says what becomes of them: given a dict of them,
    nested as the batch is, of arrays or of their specs, and gives the dict that the next stage is given.
    """

    type: Name = Field(description="The registered name of the stage.")

    def build(self, spec: "ElementSpec", rngs: "nnx.Rngs") -> "Callable[..., Batch]":  # noqa: ARG002 - what a subclass needs
        """What a pipeline runs; by default the stage itself. Called once, when the pipeline is built.

        Args:
            spec: What one record looks like where the stage stands, as a device has it, fields that ride beside the batch and
                the mask of ``pad_last`` included.
            rngs: Random streams of the stage's own, folded from those of the pipeline and its place.

        Raises:
            ValueError: The stage cannot work on such records; see `datarax_core.stages.field_of` for a field it needs.
        """
        return self

    def __call__(self, batch: "Batch") -> "Batch":
        """The batch that is made of one."""
        raise NotImplementedError(
            f"the stage {self.type!r} is run as what its build() makes; call that, or give it to a pipeline"
        )


class StageRegistry(PluginRegistry[type[Stage]]):
    """The stages that a config can name."""

    group = EntryPointGroup(name="datarax.stages", word="stage", example="rescale", first_party=_FIRST_PARTY)

    def check(self, loaded: object, name: str | None, origin: str) -> type[Stage]:
        """Return ``loaded`` if it is a stage class with the name of its entry point.

        Raises:
            PluginContractError: It is not; lists everything that is missing, and what to write.
        """
        problems = config_plugin_problems(loaded, Stage, name, ("__call__", "build"))
        require_contract("stage", loaded, name, origin, problems)
        return cast("type[Stage]", loaded)


@cache
def default_stages() -> StageRegistry:
    """The stages that are installed, looked up once in a process."""
    return StageRegistry.from_environment()


def _stage(value: Any, info: ValidationInfo) -> Stage:
    registry = (info.context or {}).get("stages") or default_stages()
    return plugin_config(value, info, base=Stage, look_up=registry.get, word="stage", example="rescale")


AnyStage = Annotated[SerializeAsAny[Stage], PlainValidator(_stage), WithJsonSchema(plugin_schema("stage"))]
"""A field that takes any installed stage, as it is or as a mapping with its ``type``."""
