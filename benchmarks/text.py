"""Text to tokens: the stage against its library's own calls, a for loop and Grain's map, over texts in memory."""

import random
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from _measure import Row, against
from flax import nnx
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from datarax_core import Pipeline
from datarax_core.records import Ragged
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_text import Tokenize

TEXTS, BATCH, RUNS = 2048, 256, 9


def rows() -> list[Row]:
    """Measure 2,048 texts of 20 to 300 words, by a tokenizer.json and by a SentencePiece model."""
    texts = _texts(TEXTS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _train(texts[:512], path)
        loaded = Tokenizer.from_file(str(path / "tokenizer.json"))
        model = sentencepiece.SentencePieceProcessor(model_file=str(path / "pieces.model"))
        return [
            *_rows(
                "tokenizer.json",
                path / "tokenizer.json",
                texts,
                one=lambda text: loaded.encode(text).ids,
                many=lambda part: [encoding.ids for encoding in loaded.encode_batch_fast(part)],
            ),
            *_rows("SentencePiece", path / "pieces.model", texts, one=model.encode, many=model.encode),
        ]


def _rows(
    what: str,
    path: Path,
    texts: list[str],
    *,
    one: Callable[[str], list[int]],
    many: Callable[[list[str]], list[list[int]]],
) -> Iterator[Row]:
    column = np.array(texts, object)
    batches = [column[start : start + BATCH] for start in range(0, TEXTS, BATCH)]
    source = MemorySource(MemorySourceConfig(), {"text": column})
    config = Tokenize(field="text", tokenizer=path)
    stage: Any = config.build(source.element_spec(), nnx.Rngs(0))
    pipeline = Pipeline(source=source, stages=[config], batch_size=BATCH)

    def each(work: Callable[[Any], object]) -> Callable[[], object]:
        return lambda: deque(map(work, batches), maxlen=0)

    by_stage = each(lambda texts: stage({"text": texts}))
    by_pipeline = partial(
        deque, pipeline, maxlen=0
    )  # a whole run, since an endless one is read ahead between the rounds
    by_library = each(lambda texts: _ragged(many(texts.tolist())))
    in_a_loop = each(lambda texts: _ragged([one(text) for text in texts]))

    def row(reference: Callable[[], object], ours: Callable[[], object], told: str, target: float) -> Row:
        return against(reference, ours, records=TEXTS, what=f"{what}: {told}", target=target, runs=RUNS)

    yield row(by_library, by_stage, "the stage, against one call a batch of its library", 0.9)
    yield row(in_a_loop, by_stage, "the stage, against a for loop", 1.5)
    yield row(by_library, by_pipeline, "a pipeline, against one call a batch of its library", 0.9)
    yield row(in_a_loop, by_pipeline, "a pipeline, against a for loop", 1.5)
    if find_spec("grain") is not None:
        yield row(_grain(texts, one), by_pipeline, "a pipeline, against Grain's map", 2.0)


def _ragged(rows: list[list[int]]) -> Ragged:
    return Ragged.from_list([np.array(row, np.int32) for row in rows])


def _grain(texts: list[str], one: Callable[[str], list[int]]) -> Callable[[], object]:
    """Return a round of Grain with its default threads, which maps a function over single records and batches the results."""
    import grain

    dataset = grain.MapDataset.source(texts).map(lambda text: np.array(one(text), np.int32))
    batched = dataset.to_iter_dataset().batch(BATCH, batch_fn=Ragged.from_list)
    return partial(deque, batched, maxlen=0)


def _texts(count: int) -> list[str]:
    drawn = random.Random(0)  # noqa: S311 - texts of no meaning
    words = ["".join(drawn.choices("etaoinshrdlucmfwypvbgkjqxz", k=drawn.randint(2, 9))) for _ in range(5000)]
    return [" ".join(drawn.choices(words, k=drawn.randint(20, 300))) for _ in range(count)]


def _train(texts: list[str], folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=4000, show_progress=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "corpus.txt").write_text("\n".join(texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "pieces"), vocab_size=4000, minloglevel=2
    )
