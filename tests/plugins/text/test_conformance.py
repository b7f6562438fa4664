"""The stages keep the promises of every host stage, for each library and each kind of column."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarax_core.records import Ragged
from datarax_core.testing import HostStageConformance, check_host_stage
from datarax_text import Detokenize, Tokenize

FILES = ["bytes.json", "words.json", "pieces.model"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "options", [{}, {"to": "tokens", "offsets": "places", "dtype": "uint16"}], ids=["plain", "all"]
)
def test_tokenize(tokenizers_folder: Path, texts: list[str], file: str, options: dict[str, Any]) -> None:
    batch = {"text": np.array(texts, object), "label": np.arange(len(texts))}
    check_host_stage(Tokenize(field="text", tokenizer=tokenizers_folder / file, **options), batch)


def test_tokenize_pairs(tokenizers_folder: Path, texts: list[str]) -> None:
    batch = {"text": np.array(texts, object), "other": np.array(texts[::-1], object)}
    check_host_stage(
        Tokenize(field="text", pair="other", type_ids="types", tokenizer=tokenizers_folder / "words.json"), batch
    )


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("is_padded", [False, True])
def test_detokenize(tokenizers_folder: Path, file: str, *, is_padded: bool) -> None:
    tokens = Ragged.from_list([np.arange(5, 5 + length, dtype=np.int32) for length in range(20)])
    batch: dict[str, Any] = {"tokens": tokens}
    options = {}
    if is_padded:
        batch = {"tokens": tokens.to_padded(20), "length": tokens.lengths}
        options["length_field"] = "length"
    check_host_stage(Detokenize(field="tokens", tokenizer=tokenizers_folder / file, **options), batch)


class OfText(HostStageConformance):
    """The whole kit, with the files of tokenizers that a fixture writes."""

    folder: Path

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _files(cls, tokenizers_folder: Path) -> None:
        cls.folder = tokenizers_folder


class TestTokenize(OfText):
    records = {"text": ["one", "", "two words", "three words, or more", "naïve"] * 2, "label": np.arange(10)}

    def make_stage(self, folder: Path) -> Any:  # noqa: ARG002 - of the kit
        return Tokenize(field="text", tokenizer=self.folder / "words.json")


class TestDetokenize(OfText):
    records = {"tokens": [np.arange(length, dtype=np.int32) for length in range(10)]}

    def make_stage(self, folder: Path) -> Any:  # noqa: ARG002 - of the kit
        return Detokenize(field="tokens", tokenizer=self.folder / "words.json")
