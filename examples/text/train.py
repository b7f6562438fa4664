"""Tell languages apart by the bytes of a phrase: from text in a file to compiled epochs, by stages of a config.

Run: ``python examples/text/train.py``.
"""

from pathlib import Path

import optax
from flax import nnx
from model import Classifier, count_right, train_step
from phrases import LANGUAGE_NAMES, write_phrases

from datarax_core import Pipeline

HERE = Path(__file__).parent
EPOCHS = 4


def main() -> None:
    """Run the example."""
    write_phrases(HERE / "out")
    pipeline = Pipeline.from_config(HERE / "train.yaml")
    model = Classifier(len(LANGUAGE_NAMES), rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    steps = len(pipeline.source) // pipeline.rule.batch_size
    for epoch in range(EPOCHS):
        losses = pipeline.scan(train_step, modules=(model, optimizer), length=steps)
        print(f"epoch {epoch}: mean loss {losses.mean():.3f}")
    held_out = Pipeline.from_config(HERE / "evaluate.yaml")
    right, lengths = 0, set()
    for batch in held_out:
        right += int(count_right(model, batch))
        lengths.add(batch["tokens"].shape[1])
    print(
        f"held-out phrases classified right: {right / len(held_out.source):.1%}, in batches of length {sorted(lengths)}"
    )


if __name__ == "__main__":
    main()
