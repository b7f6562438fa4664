"""Slugs, the file of spellings, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acme_slugs import AcmeSlugs
from datarax_core import Pipeline, StageError, from_sequence

SPELLINGS = "ä ae\nö oe\nü ue\nß ss\n"


def pipeline(*titles: Any, **fields: Any) -> Pipeline:
    source = from_sequence([{"title": title} for title in titles])
    return Pipeline(source=source, stages=[AcmeSlugs(field="title", **fields)], batch_size=len(titles))


def slugs(*titles: str, **fields: Any) -> list[str]:
    return next(iter(pipeline(*titles, **fields)))["slug"].tolist()


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hello, World!", "hello-world"),
        ("  -- 3rd  time's  a charm --", "3rd-time-s-a-charm"),
        ("Crème brûlée", "creme-brulee"),
        ("Cre\u0300me", "creme"),
        ("ﬁne", "fine"),
        ("100 €", "100"),
    ],
)
def test_a_slug_is_ascii_letters_digits_and_hyphens(title: str, slug: str) -> None:
    assert slugs(title) == [slug]


def test_a_file_says_how_characters_are_spelled(tmp_path: Path) -> None:
    (tmp_path / "german.txt").write_text(SPELLINGS, encoding="utf-8")
    titles = ["Über Äpfel", "Straße", "U\u0308ber"]
    assert slugs(*titles, spellings=str(tmp_path / "german.txt")) == ["ueber-aepfel", "strasse", "ueber"]
    assert slugs(*titles) == ["uber-apfel", "strae", "uber"]


def test_a_text_of_which_nothing_is_left_gets_what_empty_says() -> None:
    assert slugs("日本", "a", empty="untitled") == ["untitled", "a"]


def test_a_text_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(
        StageError, match="no letter or digit is left of '日本'; set empty to the slug of such texts"
    ) as caught:
        slugs("a", "日本")
    assert any("record 1 fails by itself" in note for note in caught.value.__notes__)


def test_a_state_with_other_spellings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "german.txt"
    file.write_text(SPELLINGS, encoding="utf-8")
    state = pipeline("a", spellings=str(file)).get_state()
    file.write_text("ä a\n", encoding="utf-8")
    with pytest.raises(ValueError, match="spellings"):
        pipeline("a", spellings=str(file)).set_state(state)


@pytest.mark.parametrize(
    ("titles", "fields", "message"),
    [
        ([np.int32(1)], {}, "stages[0].field: field 'title' is int32[]; slugs are made of texts"),
        (["a"], {"to": "title"}, "the name 'title' is taken by another field"),
        (
            ["a"],
            {"spellings": "missing.txt"},
            "stages[0].spellings: [Errno 2] No such file or directory: 'missing.txt'",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_the_pipeline_is_built(
    titles: list[Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(StageError, match=re.escape(message)):
        pipeline(*titles, **fields)


@pytest.mark.parametrize("line", ["ae ä", "ä", "ä ä"])
def test_a_line_that_is_no_spelling_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "german.txt").write_text(f"ö oe\n{line}\n", encoding="utf-8")
    with pytest.raises(StageError, match=rf"german.txt:2: '{line}' is no character and its spelling, such as 'ä ae'"):
        pipeline("a", spellings=str(tmp_path / "german.txt"))
