"""A small convolutional network for eight by eight digits, and its training step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

Batch = dict[str, jax.Array]


class Classifier(nnx.Module):
    """(batch, 8, 8) images from 0 to 1 -> (batch, 10) logits."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 16, kernel_size=(3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 32, kernel_size=(3, 3), rngs=rngs)
        self.hidden = nnx.Linear(4 * 4 * 32, 64, rngs=rngs)
        self.logits = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return the logits of each class."""
        x = nnx.relu(self.second(nnx.relu(self.first(images[..., None]))))
        x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.logits(nnx.relu(self.hidden(x.reshape(len(x), -1))))


@nnx.jit
def train_step(model: Classifier, optimizer: nnx.Optimizer[Any], batch: Batch) -> jax.Array:
    """Update the model by one step of gradient descent; return the loss before it."""

    def loss_of(model: Classifier) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(batch["image"]), batch["label"]).mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def count_right(model: Classifier, batch: Batch) -> jax.Array:
    """Return the number of records of the batch that are classified right; padding does not count."""
    return jnp.sum((model(batch["image"]).argmax(-1) == batch["label"]) & batch["valid"])
