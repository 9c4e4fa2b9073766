"""What an import of the boosted networks loads, and that each public name is there."""

import subprocess
import sys
from pathlib import Path

import pytest

import relaxon.neuromorphic.boosting as boosting

HEAVY = ("torch", "numba", "scipy", "sklearn", "matplotlib", "safetensors")
SOURCE = Path(__file__).parents[3] / "src"


def loaded(code: str) -> str:
    code = f"import sys; {code}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE)
    return run.stdout.strip()


def test_the_package_loads_nothing_heavy() -> None:
    assert loaded("import relaxon.neuromorphic.boosting") == ""


def test_the_command_parses_its_arguments_without_anything_heavy() -> None:
    code = "import argparse; from relaxon.neuromorphic.boosting import command; "
    assert loaded(code + "command.add_arguments(argparse.ArgumentParser())") == ""


def test_the_estimators_do_without_torch() -> None:
    assert "torch" not in loaded("from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor").split()


def test_every_public_name_resolves() -> None:
    assert {"GradientBoostedNetworkRegressor", "UnseenCategoryWarning", "load"} <= set(boosting.__all__)
    for name in boosting.__all__:
        assert getattr(boosting, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = boosting.no_such_name
