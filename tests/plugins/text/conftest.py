"""Tiny tokenizers, trained on the texts of these tests: no file of the network is needed."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

MadeOnce = Callable[[str, Callable[[Path], None]], Path]


def _texts(count: int) -> list[str]:
    drawn = random.Random(0)  # noqa: S311 - of a test
    words = ["".join(drawn.choices("abcdefghijklmnopqrst", k=drawn.randint(2, 8))) for _ in range(200)]
    odd = ["", "naïve café", "Grüße", "日本語 text", "smile 😀 twice 😀", "two\nlines", " spaces  inside "]
    return [*odd, *(" ".join(drawn.choices(words, k=drawn.randint(1, 40))) for _ in range(count))]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Return 60 texts of different lengths, one of them empty, some not in ASCII."""
    return _texts(53)


def _train(folder: Path) -> None:
    texts = _texts(300)
    bytes_ = Tokenizer(models.BPE())
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    bytes_.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False, initial_alphabet=alphabet),
    )
    bytes_.save(str(folder / "bytes.json"))
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a token of text
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    ids = [(token, words.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    words.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    words.save(str(folder / "words.json"))
    (folder / "corpus.txt").write_text("\n".join(text for text in texts if text.strip()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "pieces"),
        vocab_size=240,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=3,
    )


@pytest.fixture(scope="session")
def tokenizers_folder(made_once: MadeOnce) -> Path:
    """Return a folder of tokenizers.

    ``bytes.json`` is byte-level BPE, ``words.json`` is WordPiece with ``[CLS]`` and ``[SEP]`` around a text, and
    ``pieces.model`` is of SentencePiece.
    """
    return made_once("tokenizers", _train)
