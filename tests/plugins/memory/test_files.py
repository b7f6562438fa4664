"""Files: mapped if possible, read into memory otherwise, and refused with their path if damaged or foreign."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import DataFileError, Pipeline, RecordError
from datarax_memory import MemorySource, MemorySourceConfig


def open_source(path: Path, **config: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(path=path, **config), rngs=nnx.Rngs(0))


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 255, (20, 4, 4), np.uint8),
        "fortran": np.asfortranarray(rng.normal(size=(20, 3)).astype(np.float32)),
        "label": np.arange(20),
        "text": np.array([f"t{i}" for i in range(20)]),
    }


def is_mapped(column: Any) -> bool:
    while column is not None and not isinstance(column, np.memmap):
        column = getattr(column, "base", None)
    return column is not None


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", array)
    (folder / "notes.txt").write_text("files of other kinds are left alone")
    return folder


def write_npz(path: Path, save: Callable[..., None] = np.savez) -> Path:
    save(path, **arrays())
    return path


@pytest.fixture(params=["folder", "stored", "compressed"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        return write_folder(tmp_path / "columns")
    return write_npz(tmp_path / "columns.npz", np.savez if request.param == "stored" else np.savez_compressed)


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("cacheable", [False, True])
def test_a_file_is_served_as_the_same_arrays_in_memory_are(path: Path, placement: str, cacheable: bool) -> None:  # noqa: FBT001
    config = {"shuffle": True, "placement": placement}
    from_file = open_source(path, cacheable=cacheable, **config)
    in_memory = MemorySource(MemorySourceConfig(**config), arrays(), rngs=nnx.Rngs(0))
    assert from_file.data.keys() == arrays().keys()
    assert from_file.element_spec() == in_memory.element_spec()
    for ours, theirs in zip(
        Pipeline(source=from_file, batch_size=8), Pipeline(source=in_memory, batch_size=8), strict=True
    ):
        assert all(np.array_equal(ours[name], theirs[name]) for name in arrays())


def test_files_are_mapped_read_only_if_they_can_be(path: Path) -> None:
    data = open_source(path).data
    can_be = not (path.suffix == ".npz" and zipfile.ZipFile(path).infolist()[0].compress_type)
    for column in data.values():
        assert is_mapped(column) == can_be
        assert column.flags.writeable != can_be


def test_cacheable_keeps_everything_in_memory_so_that_the_files_are_not_touched_again(path: Path) -> None:
    source = open_source(path, cacheable=True, placement="host")
    assert not any(map(is_mapped, source.data.values()))
    for file in path.iterdir() if path.is_dir() else [path]:
        file.write_bytes(b"\0" * file.stat().st_size)
    for _ in range(2):
        assert [element["label"] for element in source] == list(range(20))


def test_cacheable_reads_mapped_data_into_memory_too(tmp_path: Path) -> None:
    write_folder(tmp_path / "columns")
    labels = np.load(tmp_path / "columns" / "label.npy", mmap_mode="r")
    mapped = {"label": labels[5:], "other": np.arange(15)}
    config = MemorySourceConfig(cacheable=True, placement="host")
    sources = [MemorySource(config, mapped), MemorySource(config, labels[5:])]
    sources += [source.copy() for source in sources]
    (tmp_path / "columns" / "label.npy").write_bytes(b"\0" * (tmp_path / "columns" / "label.npy").stat().st_size)
    for source in sources:
        batch = source.get_batch(15)
        assert (batch["label"] if isinstance(batch, dict) else batch).tolist() == list(range(5, 20))
    assert sources[0].data["other"] is mapped["other"]
    assert sources[2].data is sources[0].data


@pytest.mark.parametrize("data", [{"x": np.arange(3)}, [1, 2], np.arange(3), [{"x": 1}]])
def test_cacheable_is_refused_where_nothing_would_be_read(data: Any) -> None:
    with pytest.raises(ValueError, match=r"MemorySource has cacheable=True, but no column .*; leave cacheable out$"):
        MemorySource(MemorySourceConfig(cacheable=True), data)
    with pytest.raises(ValueError, match=r"MemorySource has cacheable=True, but no column .*; leave cacheable out$"):
        MemorySource(MemorySourceConfig(), data).copy(config=MemorySourceConfig(cacheable=True))


def test_a_mapped_file_is_read_when_its_records_are(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path / "columns"), placement="host")
    mapped = np.load(tmp_path / "columns" / "label.npy", mmap_mode="r+")
    mapped[3] = -7
    mapped.flush()
    assert source[3]["label"] == source.get_batch(4)["label"][3] == -7


def test_an_archive_written_by_other_tools_is_mapped_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("x.npy")
        member.extra = b"\x99\x99\x04\x00abcd"
        archive.writestr(member, (tmp_path / "x.npy").read_bytes())
    source = open_source(tmp_path / "x.zip")
    assert is_mapped(source.data["x"])
    assert list(source.get_batch(5)["x"]) == [0, 1, 2, 3, 4]


def test_a_long_header_of_a_later_npy_version_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, np.arange(5), version=(2, 0))
    with (tmp_path / "y.npy").open("wb") as file, pytest.warns(UserWarning, match="can only be read by NumPy"):
        np.lib.format.write_array(file, np.zeros(5, [("\u03bc", "f4")]))
    source = open_source(tmp_path)
    assert source[4]["x"] == 4
    assert source.data["y"].dtype.names == ("\u03bc",)


def test_an_array_without_records_is_an_empty_source(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((0, 3)))
    np.savez(tmp_path / "none.npz")
    for name in ("x.npz", "none.npz"):
        source = open_source(tmp_path / name)
        assert len(source) == 0
        with pytest.raises(ValueError, match="MemorySource is empty: it has no records to serve"):
            source.get_batch(1)


def test_a_copy_shares_what_was_read_and_another_path_is_read_anew(path: Path, tmp_path: Path) -> None:
    source = open_source(path)
    assert source.copy().data is source.data
    np.savez(tmp_path / "other.npz", label=np.arange(3))
    other = source.copy(config=MemorySourceConfig(path=tmp_path / "other.npz"))
    assert len(other) == 3
    whole = source.copy(config=MemorySourceConfig(path=path, cacheable=True))
    assert not any(map(is_mapped, whole.data.values()))
    with pytest.raises(ValueError, match="MemorySource was given neither data nor a path"):
        source.copy(config=MemorySourceConfig())
    with pytest.raises(ValueError, match="MemorySource was given both data and a path"):
        MemorySource(MemorySourceConfig(), [1, 2]).copy(config=MemorySourceConfig(path=path))


# -- files that cannot be loaded --------------------------------------------------------------------------------------------


def _cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def _empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _single_npy(folder: Path) -> Path:
    np.save(folder / "image.npy", np.arange(3))
    return folder / "image.npy"


def _text_named_npz(folder: Path) -> Path:
    (folder / "text.npz").write_text("no archive")
    return folder / "text.npz"


def _truncated_npz(folder: Path) -> Path:
    return _cut(write_npz(folder / "cut.npz"), 900)


def _zip_of_text(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "foreign.npz", "w") as archive:
        archive.writestr("readme.txt", "an archive of something else")
    return folder / "foreign.npz"


def _damaged_compressed(folder: Path) -> Path:
    path = write_npz(folder / "damaged.npz", np.savez_compressed)
    content = bytearray(path.read_bytes())
    content[60:160] = b"\xff" * 100
    path.write_bytes(content)
    return path


def _objects_in_npz(folder: Path) -> Path:
    np.savez(folder / "objects.npz", thing=np.array([{}, None], dtype=object))
    return folder / "objects.npz"


def _objects_in_folder(folder: Path) -> Path:
    np.save(folder / "thing.npy", np.array([{}, None], dtype=object))
    return folder


def _truncated_npy(folder: Path) -> Path:
    _cut(write_folder(folder / "columns") / "image.npy", 200)
    return folder / "columns"


def _too_long_npy(folder: Path) -> Path:
    file = write_folder(folder / "columns") / "image.npy"
    file.write_bytes(file.read_bytes() + b"\0")
    return folder / "columns"


def _no_npy(folder: Path) -> Path:
    (write_folder(folder / "columns") / "image.npy").write_bytes(b"")
    return folder / "columns"


def _pickle_named_npy(folder: Path) -> Path:
    (folder / "thing.npy").write_bytes(pickle.dumps([1, 2]))
    return folder


def _npz_named_npy(folder: Path) -> Path:
    write_npz(folder / "x.npz").rename(folder / "image.npy")
    return folder


def _unequal(folder: Path) -> Path:
    np.savez(folder / "unequal.npz", image=np.zeros((4, 2)), label=np.zeros(3))
    return folder / "unequal.npz"


def _scalar(folder: Path) -> Path:
    np.savez(folder / "scalar.npz", image=np.float32(3))
    return folder / "scalar.npz"


def _device(_: Path) -> Path:
    return Path(os.devnull)


CANNOT_BE_LOADED: list[tuple[Callable[[Path], Path], type[Exception], str]] = [
    (lambda folder: folder / "no.npz", FileNotFoundError, r"no such file or folder: .*no\.npz; 'path' names an \.npz"),
    (lambda folder: _single_npy(folder) / "x.npz", FileNotFoundError, r"no such file or folder: .*image\.npy/x\.npz"),
    (_empty_folder, FileNotFoundError, r"the folder .*empty has no \.npy file; save one for each field"),
    (_single_npy, DataFileError, r"image\.npy is a single \.npy file, whose field has no name; give the folder"),
    (_device, DataFileError, r"null is neither a file nor a folder"),
    (
        _text_named_npz,
        DataFileError,
        r"text\.npz is not an \.npz file, or its end is missing; write it with numpy\.savez",
    ),
    (_truncated_npz, DataFileError, r"cut\.npz is not an \.npz file, or its end is missing"),
    (_zip_of_text, DataFileError, r"'readme\.txt' in .*foreign\.npz cannot be loaded: .*magic string is not correct"),
    (_damaged_compressed, DataFileError, r"'image' in .*damaged\.npz cannot be loaded: .*; write it with numpy\.savez"),
    (
        _objects_in_npz,
        DataFileError,
        r"'thing' in .*objects\.npz cannot be loaded: Object arrays .*without object fields",
    ),
    (_objects_in_folder, DataFileError, r"thing\.npy cannot be loaded: Object arrays .*without object fields"),
    (
        _truncated_npy,
        DataFileError,
        r"image\.npy cannot be loaded: its header declares 320 bytes, uint8\[20, 4, 4\], and 72 follow: it is cut off",
    ),
    (_no_npy, DataFileError, r"image\.npy cannot be loaded: EOF"),
    (_pickle_named_npy, DataFileError, r"thing\.npy cannot be loaded: .*magic string is not correct"),
    (_npz_named_npy, DataFileError, r"image\.npy cannot be loaded: .*magic string is not correct"),
    (_too_long_npy, DataFileError, r"image\.npy cannot be loaded: its header declares 320 bytes, .*, and 321 follow"),
    (
        _unequal,
        DataFileError,
        r"the arrays in .*unequal\.npz are no columns of one length: 'image' has 4, 'label' has 3",
    ),
    (
        _scalar,
        DataFileError,
        r"the arrays in .*scalar\.npz are no columns of one length: 'image' is a scalar; each record",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), CANNOT_BE_LOADED)
def test_files_that_cannot_be_loaded_are_refused_with_their_path(
    make: Callable[[Path], Path], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(error, match=message):
        open_source(path)


@pytest.mark.parametrize("make", [_damaged_compressed, _objects_in_npz, _truncated_npy, _pickle_named_npy])
def test_files_that_cannot_be_loaded_are_refused_with_cacheable_too(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}.* cannot be loaded: "):
        open_source(make(tmp_path), cacheable=True)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    write_npz(folder / "stored.npz")
    write_npz(folder / "compressed.npz", np.savez_compressed)
    return folder


@settings(max_examples=120, derandomize=True, deadline=None)
@given(
    name=st.sampled_from(["stored.npz", "compressed.npz"]),
    at=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    keep=st.booleans(),
)
@pytest.mark.filterwarnings("default")  # NumPy warns of headers that Python 2 may have written
def test_a_damaged_byte_is_harmless_or_an_error_with_the_path(
    archives: Path, name: str, at: float, value: int, *, keep: bool
) -> None:
    content = bytearray((archives / name).read_bytes())
    content[int(at * len(content))] = value
    path = archives / "damaged.npz"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        source = open_source(path, cacheable=keep)
    except ValueError as error:
        assert str(path) in str(error) or "MemorySource" in str(error)  # noqa: PT017 - whichever it is
    else:
        assert len(source.data) <= len(arrays())


@pytest.fixture
def unreadable(shared_folder: Path) -> list[tuple[Path, str]]:
    npz, folder, closed = shared_folder / "x.npz", shared_folder / "columns", shared_folder / "closed"
    write_npz(npz).chmod(0)
    (write_folder(folder) / "image.npy").chmod(0)
    write_folder(closed).chmod(0)
    return [(npz, "x.npz"), (folder, "image.npy"), (closed, "closed"), (closed / "x.npz", "x.npz")]


@pytest.mark.usefixtures("ordinary_user")
def test_a_file_without_read_permission_is_an_error_with_its_path(unreadable: list[tuple[Path, str]]) -> None:
    for path, named in unreadable:
        with pytest.raises(PermissionError, match=rf"{named} may not be read: permission denied; make it readable"):
            open_source(path)


def test_a_dtype_that_the_file_does_not_keep_is_refused_by_field(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3, ml_dtypes.bfloat16))
    with pytest.raises(ValueError, match=r"field 'x' of .*x\.npz is .*, raw bytes: NumPy's files forget dtypes"):
        open_source(tmp_path / "x.npz")


def test_a_link_to_a_file_that_is_gone_is_a_missing_field(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    (tmp_path / "y.npy").symlink_to(tmp_path / "gone.npy")
    with pytest.raises(
        FileNotFoundError, match=r"no such file: \S+/y.npy, a link to \S+/gone.npy, which does not exist; rest"
    ):
        open_source(tmp_path)


def test_shards_are_no_fields(tmp_path: Path) -> None:
    np.save(tmp_path / "x-00000-of-00002.npy", np.arange(3))
    np.save(tmp_path / "x-00001-of-00002.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"holds shards, such as x-00000-of-00002.npy, .*; join them to one x.npy"):
        open_source(tmp_path)


def test_addresses_are_refused_by_name_and_file_addresses_are_paths(tmp_path: Path) -> None:
    np.savez(tmp_path / "star*.npz", x=np.arange(3))
    assert len(MemorySource(MemorySourceConfig(path=(tmp_path / "star*.npz").as_uri()))) == 3
    for address in ("hdfs://b/x.npz", "ftp://b/x", "memory://h/x.npz"):
        with pytest.raises(
            ValueError,
            match=rf"'{address}' is not on this machine, and \w+:// is not read \(of addresses, only .*copy the f",
        ):
            MemorySourceConfig(path=address)


def test_characters_of_patterns_in_the_folder_of_the_config_stand_for_themselves(tmp_path: Path) -> None:
    for folder, count in (("star*", 2), ("starry", 3), ("a[1]?", 4)):
        (tmp_path / folder / "data").mkdir(parents=True)
        np.save(tmp_path / folder / "data" / "x.npy", np.arange(count))
        (tmp_path / folder / "run.yaml").write_text(
            "batch_size: 1\nsource: {type: memory, path: data}\n", encoding="utf-8"
        )
        assert len(Pipeline.from_config(tmp_path / folder / "run.yaml")) == count


# -- checksums and damaged text -------------------------------------------------------------------------------------------


def _flipped(path: Path, wanted: bytes, at: int, value: int) -> Path:
    content = bytearray(path.read_bytes())
    content[content.index(wanted) + at] = value
    path.unlink()
    path.write_bytes(content)
    return path


def write_long_npz(path: Path) -> Path:
    """Write an archive whose members are too long to be read, and compared with their checksums, when it is opened."""
    np.savez(path, **{name: np.concatenate([array] * 200) for name, array in arrays().items()})
    return path


def test_a_mapped_archive_is_checked_against_its_checksums_by_verify(tmp_path: Path) -> None:
    path = write_long_npz(tmp_path / "x.npz")
    source = open_source(path)
    assert source.verify_records(np.arange(20)).errors == ()
    _flipped(path, np.arange(20).tobytes(), 8, 7)
    damaged = open_source(path)
    assert damaged[1]["label"] == 7
    with pytest.raises(
        DataFileError, match=r"'label' in .*x\.npz is damaged: its content differs from its checksum \(Bad CRC-32"
    ) as caught:
        damaged.verify_records(np.arange(3))
    assert caught.value.path == str(path)
    assert open_source(path, columns=["image"]).verify_records(np.arange(20)).records == 20


def test_a_member_that_the_directory_of_an_archive_lost_is_an_error(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2", 0, content.rindex(b"PK\1\2")) + 32] = (
        60  # a comment that hides the entry after it
    )
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"x\.npz cannot be loaded: (it holds 4 arrays, and its directory lists 3|Bad)"
    ):
        open_source(path)


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_damaged_text_names_record_field_and_file(tmp_path: Path, placement: str, *, in_folder: bool) -> None:
    path = write_folder(tmp_path / "columns") if in_folder else write_long_npz(tmp_path / "x.npz")
    file = path / "text.npy" if in_folder else path
    _flipped(file, "t3".encode("utf-32-le"), 3, 0xFF)
    source = open_source(path, placement=placement)
    named = (
        rf"record 3 of {path} cannot be read: field 'text' is damaged text, with a code point beyond U\+10FFFF; restore"
    )
    for read in (lambda: source[3], lambda: list(source), lambda: source.get_records(np.arange(5))):
        with pytest.raises(RecordError, match=named):
            read()
    assert source[2]["text"] == "t2"
    if in_folder:
        assert [error.record for error in source.verify_records(np.arange(20)).errors] == [3]
