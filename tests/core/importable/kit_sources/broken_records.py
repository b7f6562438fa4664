"""For each promise about configs, records, errors and claims, a source that breaks it and keeps the others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from datarax_core import Capabilities
from datarax_core.config.base import Count, Flag
from datarax_core.testing import Damaged

from .healthy import (
    SIZE,
    Conformance,
    FileConfig,
    FileConformance,
    Healthy,
    HealthyConfig,
    HealthyFile,
    Table,
    records_of,
)

# -- configs ----------------------------------------------------------------------------------------------------------------


class ForgivingConfig(HealthyConfig):
    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        return {name: value for name, value in values.items() if name in cls.model_fields}


class Forgiving(Healthy):
    """Ignores unknown options."""

    config_class = ForgivingConfig


class Unbuildable(Healthy):
    """Fails in its constructor."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ARG002 - nothing is built
        raise KeyError("size")


class LenientConfig(HealthyConfig):
    size: Annotated[int, BeforeValidator(int), Field(ge=1)] = SIZE


class Lenient(Healthy):
    """Takes text for numbers."""

    config_class = LenientConfig


class IgnoringConfig(HealthyConfig):
    fast: Flag = False
    level: Literal["low", "high"] = "low"


class Ignoring(Healthy):
    """Accepts options that change nothing."""

    config_class = IgnoringConfig


class ChangeableConfig(HealthyConfig):
    model_config = ConfigDict(frozen=False)


class Changeable(Healthy):
    """Has a config that is not frozen."""

    config_class = ChangeableConfig


class ScaledConfig(HealthyConfig):
    scale: Annotated[int, AfterValidator(lambda scale: scale * 10)] = 10


class Scaled(Healthy):
    """Has a config whose validator changes its own result."""

    config_class = ScaledConfig

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        return {**records_of(indices), "x": records_of(indices)["x"] * np.float32(self.config.scale / 10)}


class ByTextConfig(HealthyConfig):
    size: Annotated[Count, BeforeValidator(lambda size: int(size) if isinstance(size, str) else size)] = SIZE


class ByText(Healthy):
    """Accepts a text for an option that its schema describes as an integer."""

    config_class = ByTextConfig


class TextOptionConformance(Conformance):
    config = {**Conformance.config, "size": str(SIZE)}


# -- records ----------------------------------------------------------------------------------------------------------------


class OneShort(Healthy):
    """Has a length that is one too small."""

    def __len__(self) -> int:
        return super().__len__() - 1


class Swapped(Healthy):
    """Has its first two records swapped."""

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        rows = np.asarray(indices)
        return super().get_records(np.where(rows < 2, 1 - rows, rows))


class WideElements(Healthy):
    """Returns single records in another dtype."""

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        return [{**element, "x": element["x"].astype(np.float64)} for element in super().get_elements(indices)]


class Deduplicating(Healthy):
    """Reads a record only once if its index comes twice in a row."""

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        rows = np.asarray(indices)
        again = np.append(False, rows[1:] == rows[:-1])
        batch = super().get_records(rows)
        return {**batch, "id": np.where(again, 0, batch["id"]).astype(np.int32)}


class CountsForward(Healthy):
    """Returns ``source[0]`` for ``source[-1]``."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(~index if isinstance(index, int) and -len(self) <= index < 0 else index)


class ReusingASize(Healthy):
    """Reads into the buffer of the last batch, if both have 64 records."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.buffer = Table(np.empty(0, np.int32))

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        batch = super().get_records(indices)
        if len(indices) == len(self.buffer.ids) == 64:
            self.buffer.ids[:] = batch["id"]
            batch["id"] = self.buffer.ids
        self.buffer = Table(batch["id"])
        return batch


class Reusing(Healthy):
    """Reads batches of 64 into one buffer."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.buffer = Table(np.empty(64, np.int32))

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        batch = super().get_records(indices)
        if len(indices) == 64:
            self.buffer.ids[:] = batch["id"]
            batch["id"] = self.buffer.ids
        return batch


# -- errors -----------------------------------------------------------------------------------------------------------------


class NamesNoFile(HealthyFile):
    """Raises what NumPy raises for a file that it cannot read."""

    @staticmethod
    def ids_in(path: str) -> np.ndarray:
        ids: np.ndarray = np.load(path)
        return ids


class Wrapping(Healthy):
    """Accepts any index, modulo its length."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index % len(self) if isinstance(index, int) else index)


class TakesNothing(HealthyFile):
    """Reads a missing file as one without records."""

    def __init__(self, config: FileConfig, **named: Any) -> None:
        if not Path(config.path).exists():
            super(HealthyFile, self).__init__(config, **named)
            self.table = Table(np.arange(0))
        else:
            super().__init__(config, **named)


class Vague(HealthyFile):
    """Raises an error that does not name the damaged record."""

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        if (self.table.ids[np.asarray(indices)] < 0).any():
            raise ValueError("bad data")
        return super().get_records(indices)


class DamagedConformance(FileConformance):
    def make_damaged(self, folder: Path) -> Damaged:
        path = folder / "damaged.npy"
        np.save(path, np.where(np.arange(SIZE) == 7, -1, np.arange(SIZE)))
        return Damaged(config={"type": "kit_file", "path": str(path)}, record=7, path=path)


# -- claims -----------------------------------------------------------------------------------------------------------------


def claims_without(source: Healthy, **less: bool) -> Capabilities:
    usual = super(Healthy, source).capabilities
    fields = ("random_access", "batched_reads", "traceable", "resumable", "sized")
    return Capabilities(**{**{field: getattr(usual, field) for field in fields}, **less})


class Lengthless(Healthy):
    """Has a length, and claims to have none."""

    @property
    def capabilities(self) -> Capabilities:
        return claims_without(self, sized=False)


class Stateless(Healthy):
    """Has states, and claims to have none."""

    @property
    def capabilities(self) -> Capabilities:
        return claims_without(self, resumable=False)


class SecretlyTraceable(Healthy):
    """Can be traced, and does not claim it."""

    def get_records(self, indices: Any) -> dict[str, Any]:
        ids = indices.astype(np.int32)
        xs = (jax.numpy if isinstance(indices, jax.Array) else np).stack([ids * 0.5, -ids], axis=-1)
        return {"id": ids, "x": xs.astype(np.float32)}


class Modest(Healthy):
    """Serves every record once an epoch, and its author declares that it does not."""


class GuessesAForeignOption(Healthy):
    """Says of every path that it opens it, by an option that it does not have."""

    @classmethod
    def guess(cls, path: str) -> dict[str, Any]:
        return {"folder": path}


class ModestConformance(Conformance):
    every_record_once = False


CONFORMANCES: Mapping[type[Any], type[Conformance]] = {
    Forgiving: Conformance,
    Ignoring: Conformance,
    Changeable: Conformance,
    Scaled: Conformance,
    ByText: TextOptionConformance,
    OneShort: Conformance,
    Swapped: Conformance,
    WideElements: Conformance,
    Deduplicating: Conformance,
    CountsForward: Conformance,
    Reusing: Conformance,
    ReusingASize: Conformance,
    Unbuildable: Conformance,
    GuessesAForeignOption: Conformance,
    Lenient: Conformance,
    NamesNoFile: FileConformance,
    Wrapping: Conformance,
    TakesNothing: FileConformance,
    Vague: DamagedConformance,
    Lengthless: Conformance,
    Stateless: Conformance,
    SecretlyTraceable: Conformance,
    Modest: ModestConformance,
}
