"""Train on handwritten digits from a config; stop in the middle of an epoch; resume; evaluate on held-out digits.

Run: ``make demo``, or ``python examples/digits/train.py``.
"""

import shutil
import time
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from digits import write_digits
from flax import nnx
from model import Batch, Classifier, count_right, train_step

from datarax_core import Pipeline

HERE = Path(__file__).parent
OUT = HERE / "out"
STOP_AT = 250  # steps; an epoch has 22, so this is in the middle of the twelfth


class Training:
    """A model, its optimizer and its data pipeline: everything that one training process holds."""

    def __init__(self) -> None:
        self.pipeline = Pipeline.from_config(HERE / "train.yaml")
        self.model = Classifier(rngs=nnx.Rngs(0))
        self.optimizer = nnx.Optimizer(self.model, optax.adam(2e-3), wrt=nnx.Param)

    def run(self, batches: Iterator[Batch]) -> list[int]:
        """Train on the batches; return a checksum of each batch."""
        seen, loss = [], None
        for batch in batches:
            loss = train_step(self.model, self.optimizer, batch)
            seen.append(checksum(batch))
        print(f"  trained {len(seen)} steps, last loss {float(loss):.4f}")
        return seen

    def save(self, checkpoints: ocp.CheckpointManager, step: int) -> None:
        """Save model, optimizer and the position in the data in one checkpoint."""
        arrays = nnx.to_pure_dict(nnx.state((self.model, self.optimizer)))
        position = self.pipeline.get_state()
        checkpoints.save(
            step, args=ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), data=ocp.args.JsonSave(position))
        )
        checkpoints.wait_until_finished()

    def restore(self, checkpoints: ocp.CheckpointManager) -> None:
        """Restore the latest checkpoint."""
        state = nnx.state((self.model, self.optimizer))
        wanted = ocp.args.Composite(
            arrays=ocp.args.StandardRestore(nnx.to_pure_dict(state)), data=ocp.args.JsonRestore()
        )
        found = checkpoints.restore(checkpoints.latest_step(), args=wanted)
        nnx.replace_by_pure_dict(state, found.arrays)
        nnx.update((self.model, self.optimizer), state)
        self.pipeline.set_state(found.data)


def checksum(batch: Batch) -> int:
    """Return a number that differs if the records of a batch or their order differ."""
    return zlib.crc32(np.asarray(batch["label"]), zlib.crc32(np.asarray(batch["image"])))


def accuracy(model: Classifier) -> float:
    """Return the share of held-out digits that are classified right; each counts once."""
    pipeline = Pipeline.from_config(HERE / "evaluate.yaml")
    return sum(int(count_right(model, batch)) for batch in pipeline) / len(pipeline.source)


def same(first: Any, second: Any) -> bool:
    """Return whether two models have the same weights, to the bit."""
    pairs = zip(jax.tree.leaves(nnx.state(first)), jax.tree.leaves(nnx.state(second)), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def main() -> None:
    """Run the demonstration."""
    start = time.perf_counter()
    write_digits(OUT)
    shutil.rmtree(OUT / "checkpoints", ignore_errors=True)
    checkpoints = ocp.CheckpointManager((OUT / "checkpoints").absolute())

    print("one run, from the first batch to the last:")
    whole = Training()
    print(f"  {len(whole.pipeline)} batches of {whole.pipeline.rule.batch_size} from {whole.pipeline.source.title}")
    expected = whole.run(iter(whole.pipeline))

    print(f"another run, stopped after {STOP_AT} batches:")
    stopped = Training()
    before = stopped.run(islice(stopped.pipeline, STOP_AT))
    stopped.save(checkpoints, STOP_AT)
    print(f"  saved at record {stopped.pipeline.get_state()['position']} of the stream, in the middle of an epoch")
    del stopped

    print("resumed from that checkpoint, with everything built anew:")
    resumed = Training()
    resumed.restore(checkpoints)
    after = resumed.run(iter(resumed.pipeline))
    if before + after != expected or not same(resumed.model, whole.model):
        raise SystemExit("the resumed run differs from the uninterrupted one")
    print(f"  its {len(after)} batches are those that the uninterrupted run had, and so are its weights, to the bit")

    right = accuracy(resumed.model)
    print(f"held-out digits classified right: {right:.2%}  ({time.perf_counter() - start:.0f} s in all)")
    if right < 0.97:
        raise SystemExit("97% were expected")


if __name__ == "__main__":
    main()
