"""The public face of core: what ``__all__`` says, what is visible, and what importing it costs."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import datarax_core

SOURCE = Path(inspect.getfile(datarax_core))


def test_all_is_sorted_and_each_name_resolves() -> None:
    assert datarax_core.__all__ == sorted(set(datarax_core.__all__))
    for name in datarax_core.__all__:
        assert getattr(datarax_core, name) is not None


def test_all_is_what_is_visible() -> None:
    for name in datarax_core.__all__:
        getattr(datarax_core, name)
    packages = {path.parent.name for path in SOURCE.parent.glob("*/__init__.py")}
    own = {path.stem for path in SOURCE.parent.glob("*.py")} | packages | {"TYPE_CHECKING", "Any", "import_module"}
    visible = {name for name in dir(datarax_core) if not name.startswith("_")}
    assert visible - own == set(datarax_core.__all__) - own
    assert set(datarax_core.__all__) <= visible


def test_the_names_for_type_checkers_and_for_the_interpreter_agree() -> None:
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    typed = {
        node.module: tuple(alias.name for alias in node.names)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert typed == datarax_core._HOMES
    assert sorted(name for names in typed.values() for name in names) == datarax_core.__all__


def test_each_name_comes_from_the_module_that_is_said_to_define_it() -> None:
    for home, names in datarax_core._HOMES.items():
        module = importlib.import_module(f"datarax_core.{home}")
        for name in names:
            assert getattr(datarax_core, name) is getattr(module, name)


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
    assert (SOURCE.parent / "py.typed").exists()
