"""A small convolutional network over the bytes of a text, and its training step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

Batch = dict[str, jax.Array]

TOKENS = 259  # bytes, the beginning and the end of a text, padding


class Classifier(nnx.Module):
    """(batch, length) tokens and their mask -> (batch, classes) logits; padding changes nothing."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(TOKENS, 16, rngs=rngs)
        self.convolution = nnx.Conv(16, 32, kernel_size=(3,), rngs=rngs)
        self.logits = nnx.Linear(32, classes, rngs=rngs)

    def __call__(self, tokens: jax.Array, is_token: jax.Array) -> jax.Array:
        """Return the logits of each class."""
        mask = is_token[..., None]
        x = nnx.relu(self.convolution(self.embedding(tokens) * mask)) * mask
        return self.logits(x.sum(1) / mask.sum(1))


def train_step(model: Classifier, optimizer: nnx.Optimizer[Any], batch: Batch) -> jax.Array:
    """Update the model by one step of gradient descent; return the loss before it."""

    def loss_of(model: Classifier) -> jax.Array:
        logits = model(batch["tokens"], batch["is_token"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["language"]).mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def count_right(model: Classifier, batch: Batch) -> jax.Array:
    """Return the number of records of the batch that are classified right; padding does not count."""
    guessed = model(batch["tokens"], batch["is_token"]).argmax(-1)
    return jnp.sum((guessed == batch["language"]) & batch["valid"])
