"""Faces of core's packages: ``__all__`` lists the names that are visible or that others import; the cost of importing core."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import datarax_core

ROOT = Path(inspect.getfile(datarax_core)).parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "_cli")
FACES = ["datarax_core", *(f"datarax_core.{package}" for package in PACKAGES)]
CHECKOUT = Path(__file__).parents[2]
OUTSIDE = [
    *CHECKOUT.glob("plugins/*/datarax_*/**/*.py"),
    *CHECKOUT.glob("examples/**/*.py"),
    *CHECKOUT.glob("benchmarks/*.py"),
]
"""Files outside of core, which may import public names only."""


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_all_is_sorted_and_each_name_resolves(face: ModuleType) -> None:
    assert face.__all__ == sorted(set(face.__all__), key=kind_and_name)
    for name in face.__all__:
        assert getattr(face, name) is not None


def kind_and_name(name: str) -> tuple[int, str]:
    """Sort constants first, then classes, then functions, as ruff's RUF022 does."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_all_lists_the_visible_names(face: ModuleType) -> None:
    for name in face.__all__:
        getattr(face, name)
    modules = {path.stem for path in Path(inspect.getfile(face)).parent.iterdir()}
    helpers = {"TYPE_CHECKING", "forward_core", "forward_names", "lazy_face"}
    stand_ins = {name for name, value in vars(face).items() if isinstance(value, ModuleType)}  # of modules that moved
    visible = {name for name in vars(face) if not name.startswith("_")} - modules - helpers - stand_ins
    assert visible - set(face.__all__) == set()
    assert set(dir(face)) >= set(face.__all__)


def test_a_face_says_what_lives_there(face: ModuleType) -> None:
    assert face.__doc__
    assert len(face.__doc__.split()) > 10


def test_the_names_for_type_checkers_and_for_the_interpreter_agree(face: ModuleType) -> None:
    """Such a face imports its names when they are first used, and lists them once for type checkers."""
    tree = ast.parse(Path(inspect.getfile(face)).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_face"]
    assert len(blocks) == len(calls)
    for block, call in zip(blocks, calls, strict=True):
        typed: dict[str, list[str]] = {}
        for node in block.body:
            assert isinstance(node, ast.ImportFrom)
            assert [alias.name for alias in node.names] == [alias.asname for alias in node.names]
            home = node.module or ""
            if not node.level:  # of another package of core
                home = home.removeprefix("datarax_core")
            typed.setdefault(home, []).extend(alias.name for alias in node.names)
        homes = ast.literal_eval(call.args[1])
        assert {home: sorted(names) for home, names in typed.items()} == {
            home: sorted(names) for home, names in homes.items()
        }
        for home, names in homes.items():
            module = importlib.import_module(f".{home}", face.__name__)
            assert all(getattr(face, name) is getattr(module, name) for name in names)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_plugins_import_core_through_its_faces(path: Path) -> None:
    """Names that are in no face are private: no file outside of core imports them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "datarax_core":
            if node.module in {
                "datarax_core.errors",
                "datarax_core.background",
                "datarax_core.faces",
                "datarax_core.moved",
            }:
                continue
            assert node.module in FACES or node.module == "datarax_core._cli.app", ast.unparse(node)
            if node.module in FACES:
                public = importlib.import_module(node.module).__all__
                assert {alias.name for alias in node.names} <= set(public), ast.unparse(node)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'datarax_core' has no attribute 'Pipelines'$"):
        datarax_core.Pipelines  # noqa: B018 - reading it is the test
    with pytest.raises(ImportError, match="cannot import name 'Pipelines' from 'datarax_core'"):
        exec("from datarax_core import Pipelines")  # noqa: S102 - importing it is the test


@pytest.mark.parametrize(
    "statement",
    ["import datarax_core", "from datarax_core import SourceRegistry, PipelineConfig, ConfigError, load_config"],
)
def test_importing_core_loads_no_array_library(statement: str) -> None:
    script = f"import sys; {statement}; print(sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {
        "jax",
        "jaxlib",
        "flax",
        "grain",
        "tensorflow",
        "torch",
        "pytest",
        "jsonschema",
        "datarax_memory",
    }


def test_core_is_typed() -> None:
    assert (ROOT / "py.typed").exists()
