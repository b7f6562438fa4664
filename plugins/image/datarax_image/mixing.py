"""Stages that mix the pictures of a batch in pairs, compiled: `mixup` and `cutmix`.

Sources: Zhang and others, "mixup: Beyond Empirical Risk Minimization" (arXiv:1710.09412), and Yun and others, "CutMix:
Regularization Strategy to Train Strong Classifiers with Localizable Features" (arXiv:1905.04899).
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import ConfigDict, Field

from datarax_core.config import Count, Name, Real
from datarax_core.errors import StageError
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Stage
from datarax_core.stages import field_of, leaf_of, path_of, with_value_at

Positive: TypeAlias = Annotated[Real, Field(gt=0)]


class Mixing(Stage):
    """Base of the stages that mix each record with the one before it in its batch, the first with the last.

    The share that a record keeps is drawn by its own key. Labels become shares of classes, float32 (classes,).
    """

    stochastic: ClassVar[bool] = True

    field: Name = Field(description="The field of pictures, by dotted name, all of one shape.")
    label: Name = Field(description="The field of labels: class numbers, or shares of classes such as one_hot makes.")
    classes: Count | None = Field(default=None, description="Number of classes, where labels are class numbers.")
    alpha: Positive = Field(default=1.0, description="Shares are drawn from the distribution Beta(alpha, alpha).")
    probability: Annotated[Positive, Field(le=1)] = Field(
        default=1.0, description="Probability that a record is mixed."
    )
    valid: Name | None = Field(
        default=None, description="The mask of pad_last: a record whose partner is padding is left as it is."
    )

    def build(self, spec: ElementSpec, rngs: nnx.Rngs) -> Callable[..., Batch]:  # noqa: ARG002 - keyed by record
        """Return the stage itself, after a check of the fields."""
        picture, label = field_of(spec, self.field), field_of(spec, self.label, "label")
        self._require(picture.shape, picture.dtype, label.shape, label.dtype)
        if self.valid is not None and field_of(spec, self.valid, "valid").dtype != np.bool_:
            raise StageError(f"field {self.valid!r} is no mask of bools; name the mask of pad_last", ("valid",))
        return self

    def __call__(self, batch: Batch, keys: jax.Array) -> Batch:
        """Return the batch with pictures and labels mixed, each record by its key."""
        pictures, labels = (jnp.asarray(leaf_of(batch, name)) for name in (self.field, self.label))
        self._require(pictures.shape[1:], pictures.dtype, labels.shape[1:], labels.dtype)
        shares = labels.astype(np.float32) if self.classes is None else _one_hot(labels, self.classes)
        drawn = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
        kept = jax.vmap(lambda key: jax.random.beta(key, self.alpha, self.alpha, dtype=np.float32))(drawn[:, 0])
        is_mixed = jax.vmap(jax.random.uniform)(drawn[:, 1]) < self.probability
        if self.valid is not None:
            is_mixed &= jnp.roll(leaf_of(batch, self.valid), 1, axis=0)
        kept = jnp.where(is_mixed, kept, 1.0)
        mixed, kept = self.mix(pictures, jnp.roll(pictures, 1, axis=0), kept, drawn[:, 2])
        weight = kept[:, None]
        soft = weight * shares + (1.0 - weight) * jnp.roll(shares, 1, axis=0)
        batch = with_value_at(batch, path_of(batch, self.field, ("field",)), mixed)
        return with_value_at(batch, path_of(batch, self.label, ("label",)), soft)

    def mix(
        self, pictures: jax.Array, others: jax.Array, kept: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the mixed pictures, and the share of each record that was kept.

        Args:
            pictures: The pictures (k, height, width, ...).
            others: The picture that each is mixed with.
            kept: float32 (k,), the share to keep; 1 where nothing is mixed.
            keys: A key for each record.
        """
        raise NotImplementedError

    def _require(self, shape: tuple[int, ...], dtype: Any, label_shape: tuple[int, ...], label_dtype: Any) -> None:
        if len(shape) not in (2, 3) or not (dtype == np.uint8 or jnp.issubdtype(dtype, np.floating)):
            raise StageError(
                f"field {self.field!r} is {dtype}{list(shape)}; pictures to mix are uint8 or floats, (height, width) or "
                "(height, width, channels)",
                ("field",),
            )
        is_number = jnp.issubdtype(label_dtype, np.integer)
        if is_number and not label_shape and self.classes is None:
            raise StageError(
                f"field {self.label!r} holds class numbers, which are mixed as shares of classes; set classes to their number",
                ("classes",),
            )
        if self.classes is not None and not (is_number and not label_shape):
            raise StageError(
                f"field {self.label!r} is {label_dtype}{list(label_shape)}, and classes is for class numbers; leave it out",
                ("classes",),
            )
        if self.classes is None and len(label_shape) != 1:
            raise StageError(
                f"field {self.label!r} is {label_dtype}{list(label_shape)}; labels are class numbers, or shares of classes "
                "(classes,) such as one_hot makes",
                ("label",),
            )


class MixUp(Mixing):
    """Stage that blends each picture and its label with those of the record before it: mixup.

    A record keeps a share drawn from Beta(alpha, alpha), and takes the rest from its partner, in float32; uint8 is rounded.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "mixup", "field": "image", "label": "label", "classes": 10, "alpha": 0.2}]
        }
    )

    type: Literal["mixup"] = "mixup"

    def mix(
        self,
        pictures: jax.Array,
        others: jax.Array,
        kept: jax.Array,
        keys: jax.Array,  # noqa: ARG002 - draws no more
    ) -> tuple[jax.Array, jax.Array]:
        """Return the pictures, blended, and the shares; see `Mixing.mix`."""
        weight = kept.reshape(-1, *(1,) * (pictures.ndim - 1))
        wide = jnp.promote_types(pictures.dtype, np.float32)
        made = weight * pictures.astype(wide) + (1.0 - weight) * others.astype(wide)
        return (jnp.round(made) if pictures.dtype == np.uint8 else made).astype(pictures.dtype), kept


class CutMix(Mixing):
    """Stage that pastes a window of the picture of the record before into each picture, and mixes labels by its area: cutmix.

    The window has the proportions of the picture and, before it is clipped at the edges, the area that Beta(alpha, alpha)
    leaves to the partner; its center is drawn evenly. Labels are mixed by the area that was pasted.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "cutmix", "field": "image", "label": "label", "classes": 10}]}
    )

    type: Literal["cutmix"] = "cutmix"

    def mix(
        self, pictures: jax.Array, others: jax.Array, kept: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the pictures with windows pasted, and the shares; see `Mixing.mix`."""
        high, wide = pictures.shape[1:3]
        side = jnp.sqrt(1.0 - kept)
        centers = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
        rows = _within(jnp.arange(high), high, jnp.floor(centers[:, 0] * high), jnp.floor(side * high))
        columns = _within(jnp.arange(wide), wide, jnp.floor(centers[:, 1] * wide), jnp.floor(side * wide))
        is_pasted = rows[:, :, None] & columns[:, None, :]
        share = 1.0 - is_pasted.mean((1, 2), dtype=np.float32)
        return jnp.where(is_pasted.reshape(*is_pasted.shape, *(1,) * (pictures.ndim - 3)), others, pictures), share


def _one_hot(labels: jax.Array, classes: int) -> jax.Array:
    """Return rows of classes; a number that is no class makes a row of NaN, since compiled code cannot raise an error."""
    wide = labels.astype(np.int32)
    is_class = (wide >= 0) & (wide < classes)
    return jnp.where(is_class[:, None], jax.nn.one_hot(wide, classes, dtype=np.float32), jnp.nan)


def _within(places: jax.Array, length: int, center: jax.Array, size: jax.Array) -> jax.Array:
    """Return which places of an axis are in a window (k,) around a center, clipped to the axis."""
    first = jnp.clip(center - jnp.floor(size / 2), 0, length)[:, None]
    last = jnp.clip(center + jnp.floor(size / 2), 0, length)[:, None]
    return (places >= first) & (places < last)
