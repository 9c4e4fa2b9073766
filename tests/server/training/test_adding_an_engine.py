"""The page that adds an engine from outside the package: its four files and its example run as they stand."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from relaxon.server.training.registry import ENGINES, register_engine

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "contributing" / "adding-an-engine.md"
BLOCK = re.compile(r"```(?:python|proto)\n(.*?)```", re.DOTALL)
NAME = re.compile(r"(?:#|//) (linear_engine/\w+\.\w+)\n")


def generate_stubs(folder: Path) -> None:
    """Write the stubs of the page's .proto file beside it, as `tools/generate_stubs.py` does for relaxon's own."""
    place = importlib.util.spec_from_file_location("generate_stubs", ROOT / "tools" / "generate_stubs.py")
    tool = importlib.util.module_from_spec(place)
    place.loader.exec_module(tool)
    google = tool._google_protos(folder / "google_protos")
    includes = [f"-I{path}" for path in (folder, ROOT / "src", *google)]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, "linear_engine/linear.proto"]
    subprocess.run(command, check=True, cwd=folder)


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """The page's blocks without a file's name, its files being importable here and in the processes of jobs."""
    pytest.importorskip("grpc_tools")
    unnamed = []
    (tmp_path / "linear_engine").mkdir()
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        named = NAME.match(block)
        if named:
            (tmp_path / named.group(1)).write_text(block, encoding="utf-8")
        else:
            unnamed.append(block)
    generate_stubs(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")])))
    yield unnamed
    ENGINES.pop("linear", None)
    for name in [name for name in sys.modules if name.startswith("linear_engine")]:
        del sys.modules[name]


def test_four_files_add_an_engine_and_its_example_trains_watches_and_predicts(blocks, tmp_path):
    files = {path.name for path in (tmp_path / "linear_engine").iterdir() if "_pb2" not in path.name}
    assert files == {"linear.proto", "conversion.py", "engine.py", "estimator.py"}
    (example,) = blocks
    exec(compile(example, str(PAGE), "exec"), {})
    with pytest.raises(ValueError, match="kind 'linear' is taken by the engine of linear_engine.engine"):
        register_engine(ENGINES["linear"])
