"""The conformance kit on a folder of images, which are ragged columns; translated lines are read by the same classes."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from datarax_core import build_source
from datarax_core.testing import Damaged, SourceConformance

ELSEWHERE = {
    "name": "test_example_folders.py",
    "as_objects": "test_ragged_fields.py",
    "backend": "test_example_folders.py",
    "builder_kwargs": "test_example_folders.py",
    **dict.fromkeys(("try_gcs", "download_and_prepare_kwargs", "beam_num_workers"), "test_example_folders.py"),
    "local_files_only": "dataset/test_bad_data_sets.py",
    **dict.fromkeys(("on_error", "max_errors", "quarantine", "exclude"), "test_example_folders.py"),
    "prefetch_buffer": "sources/test_streaming.py",
    "shuffle_buffer_size": "test_tf_data.py",
}


def write_images(root: Path) -> Path:
    """Write 11 images of differing sizes, whose pixels all are their number."""
    for number in range(11):
        folder = root / f"train/{'ab'[number % 2]}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((3 + number % 4, 5, 3), number, np.uint8)
        (folder / f"{number:02}.png").write_bytes(imagecodecs.png_encode(pixels))
    return root


class TestImageFolder(SourceConformance):
    expected_length = 11
    shown_elsewhere = ELSEWHERE

    def make_config(self, folder: Path) -> dict[str, Any]:
        self.effective = {
            "split": "train[:40%]",
            "data_dir": str(write_images(folder / "others")),
            "include_keys": ["image"],
            "exclude_keys": ["image"],
        }
        root = str(write_images(folder / "photos"))
        return {"type": "tfds_streaming", "name": "image_folder", "split": "train", "data_dir": root, "shuffle": True}

    def make_damaged(self, folder: Path) -> Damaged:
        root = write_images(folder / "photos")
        config = {"type": "tfds_streaming", "name": "image_folder", "split": "train", "data_dir": str(root)}
        path = Path(build_source(config)[4]["image/filename"].decode())
        path.write_bytes(path.read_bytes()[:-20])
        return Damaged(config=config, record=4, path=path)
