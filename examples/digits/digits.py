"""The 1,797 handwritten digits that scikit-learn ships, written once to two ``.npz`` files."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def write_digits(folder: Path) -> None:
    """Write ``train.npz`` (1,438 digits) and ``test.npz`` (359): image uint8 [8, 8] from 0 to 16, label int32."""
    files = folder / "train.npz", folder / "test.npz"
    if all(file.exists() for file in files):
        return
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.int32)
    held_out = np.arange(len(labels)) % 5 == 4
    for file, chosen in zip(files, (~held_out, held_out), strict=True):
        np.savez(file, image=images[chosen], label=labels[chosen])
