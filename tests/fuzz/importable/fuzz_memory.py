"""Archives ``.npz``, stored and compressed, and folders of ``.npy`` files."""

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_format import Format, Served, change, change_a_file, require_same
from mutation import mutated_array, place_of

from datarax_memory import MemorySource, MemorySourceConfig

DATA: dict[str, Any] = {
    "image": np.arange(360, dtype=np.uint8).reshape(20, 6, 3),
    "label": np.arange(20),
    "text": np.array([f"t{number}" for number in range(20)]),
    "bytes": np.array([b"x" * (number % 5) for number in range(20)]),
    "when": np.arange(20).astype("M8[s]"),
    "fortran": np.asfortranarray(np.arange(60, dtype=np.float32).reshape(20, 3)),
}
NAME = "x.npz"


def read(path: Path, way: int) -> Served:
    """Read all records, mapped or in memory, behind a check as that of ``drx verify``; with names, or all that is there."""
    columns = list(DATA) if way % 4 < 2 else None
    source = MemorySource(MemorySourceConfig(path=str(path), columns=columns, cacheable=way % 2 == 1, placement="host"))
    source.element_spec()
    indices = np.arange(len(source))
    served = source.get_records(indices)
    source[len(source) - 1]
    for error in source.verify_records(indices).errors:
        raise error
    return dict(served)


def read_archive(folder: Path, way: int) -> Served:
    return read(folder / NAME, way)


def saved(save: Callable[..., None]) -> Callable[[Path], None]:
    return lambda folder: save(folder / NAME, **DATA)


def saved_long(folder: Path) -> None:
    """Write members that are too long to be held against their checksums when the archive is opened."""
    np.savez(folder / NAME, **{name: np.concatenate([array] * 200) for name, array in DATA.items()})


def saved_folder(folder: Path) -> None:
    for name, array in DATA.items():
        np.save(folder / f"{name}.npy", array)


def change_member(folder: Path, number: int) -> str:
    """Mutate a member of an archive, and write the archive anew, so that its checksums are right."""
    path = folder / NAME
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.Random(f"member {number}").choice(sorted(members))  # noqa: S311 - repeatable, not secret
    mutant = mutated_array(members[name], number)
    place = f"{name}, {place_of(members[name], mutant)}"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for each, old in members.items():
            archive.writestr(each, mutant if each == name else old)
    path.write_bytes(content.getvalue())
    return place


def change_archive(folder: Path, number: int) -> str:
    return change(folder / NAME, number)


FORMATS: dict[str, Format] = {
    "npz": Format(saved(np.savez), read_archive, change_archive, require_same, ways=4),
    "npz-long": Format(saved_long, read_archive, change_archive, require_same, ways=4),
    "npz-compressed": Format(saved(np.savez_compressed), read_archive, change_archive, require_same, ways=4),
    "npz-members": Format(saved(np.savez), read_archive, change_member, ways=4),
    "npy": Format(saved_folder, read, change_a_file, ways=4),
}
