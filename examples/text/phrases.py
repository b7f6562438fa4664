"""Phrases of three invented languages, written once to two ``.npz`` files."""

from pathlib import Path

import numpy as np

LANGUAGES = {
    "kalu": ("k l m n p t", "a u i", "{0}{1}"),
    "oster": ("k s t r l m", "a e i", "{0}{1}{2}"),
    "ilmi": ("k l m n s t", "a i e", "{1}{2}{0}{1}"),
}
"""Consonants, vowels, and the form of a syllable; most letters are shared, so that few tell a language by themselves."""

LANGUAGE_NAMES = tuple(LANGUAGES)


def phrase(language: str, words: int, rng: np.random.Generator) -> str:
    """Return so many words of a language."""
    consonants, vowels, form = LANGUAGES[language]
    made = []
    for _ in range(words):
        parts = [
            form.format(*(rng.choice(letters.split()) for letters in (consonants, vowels, consonants)))
            for _ in range(rng.integers(1, 4))
        ]
        made.append("".join(parts))
    return " ".join(made)


def write_phrases(folder: Path) -> None:
    """Write ``train.npz`` (1,200 phrases of 1 to 10 words) and ``test.npz`` (300, by length): text, language."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 1200), ("test", 300)):
        languages = [LANGUAGE_NAMES[number] for number in rng.integers(0, len(LANGUAGES), count)]
        words = rng.integers(1, 11, count)
        words = np.sort(words) if name == "test" else words
        texts = [phrase(language, int(number), rng) for language, number in zip(languages, words, strict=True)]
        np.savez(folder / f"{name}.npz", text=texts, language=languages)
