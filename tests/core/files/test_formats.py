"""Files of other formats are named by their first bytes."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from datarax_core.files import format_clause


def test_files_of_other_formats_are_named_with_what_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    cases = {
        b"PAR1....": r"; it is a Parquet file: read it by datasets.load_dataset\('parquet', ...\) and from_sequence",
        gzip.compress(b"abc"): r"; it is compressed by gzip: type: tfrecord of datarax-tfds reads TFRecord files so",
        (tmp_path / "a.npz").read_bytes(): r"; it is a zip archive or .npz file: type: memory reads .npz files",
        b"\x83\xafp\xd1\r\x88J?.": "; it is an ArrayRecord file: type: arrayrecord of datarax-arrayrecord reads it",
        b"version https://git-lfs.github.com/spec/v1": r"; it is a pointer of Git LFS, .*: run git lfs pull",
    }
    for content, expected in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{expected}"):
            raise ValueError(format_clause(str(path)))
    path.write_bytes(b"nothing that is known")
    assert format_clause(str(path)) == format_clause(str(tmp_path / "none")) == ""
    path.write_bytes(b"\x83\xafp\xd1\r\x88J?")  # damaged further on
    assert format_clause(str(path), "arrayrecord") == ""
    assert format_clause(str(path), "memory")
