"""What each extra brings, and what still works, and what is said, where one is not installed."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from package_modules import modules
from without_packages import run_without

from relaxon.core.extras import EXTRAS, MissingPackageError, explain, find_extra, require
from relaxon.server.watching.capabilities import list_capabilities
from relaxon.solvers.interface.registry import DEVICE_NEEDS, ENTRIES

ROOT = Path(__file__).parents[2]
BROUGHT = {
    "sklearn": "scikit-learn",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_channelz": "grpcio-channelz",
    "prometheus_client": "prometheus-client",
    "opentelemetry": "opentelemetry-sdk",
    "llvmlite": "numba",
    "joblib": "scikit-learn",
    "polysolve": "polyfem-polysolve",
}
"""The distribution that brings a package, where it is called otherwise."""
NEED_TORCH = re.compile(
    r"relaxon\.(implicit|solvers\.torch|solvers\.dcdm\.(device|network|two_grid_start|torch_cycle|training)$"
    r"|neuromorphic\.energy\.(?!command|kernels|datasets|reference"
    r"|partition\.importance_weights$|samplers\.convergence$|noise\.rank$)"
    r"|neuromorphic\.proximal\.(inversion|model|plug_and_play|potentials|storage|training\.(matching|polishing|recipes))$"
    r"|neuromorphic\.equilibrium\.(?!command|kernels|datasets|reference)|neuromorphic\.boosting\.training\.sequential"
    r"|neuromorphic\.diagnostics\.(?!command|blocks|pictures|stored)"
    r"|neuromorphic\.(described_tensors|losses|optimizers|torch_checkpoints|torch_runs)$"
    r"|neuromorphic\.binary\.(?!kernels|packing))"
)
"""Modules that are for nothing but torch's tensors."""


def requirements() -> dict[str, set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        extra: {re.match(r"[\w-]+", one).group() for one in listed}
        for extra, listed in project["optional-dependencies"].items()
    }


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_users_are_told_it_does(extra):
    assert {BROUGHT.get(package, package) for package in EXTRAS[extra]} <= requirements()[extra]


def test_the_server_s_extra_and_the_client_s_dependencies_bring_no_torch():
    assert "torch" not in requirements()["server"] | requirements()["plot"]
    assert "torch" in requirements()["neuromorphic"]


def test_every_engine_and_solver_can_be_had_by_one_extra():
    for engine in list_capabilities():
        assert set(engine.needs) <= set(EXTRAS[engine.extra]), engine
    for entry in ENTRIES:
        assert find_extra(entry.needs), entry.name
    assert find_extra(DEVICE_NEEDS) == "neuromorphic"


def test_of_two_extras_that_bring_the_same_the_lighter_one_is_named():
    assert find_extra(["sklearn"]) == "server"
    assert find_extra(["sklearn", "torch"]) == "neuromorphic"
    assert find_extra(["numpy"]) == find_extra([]) == ""


def test_a_missing_package_is_told_by_the_name_of_the_extra():
    with pytest.raises(MissingPackageError, match=r"^this needs nothing_of_that_name, .*: pip install nothing_of"):
        require(["numpy", "nothing_of_that_name"], "this")
    told = explain(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), "that")
    assert isinstance(told, MissingPackageError)
    assert str(told) == 'that needs torch, which is not installed; install it with: pip install "relaxon[neuromorphic]"'
    fault = ModuleNotFoundError("No module named 'relaxon.typo'", name="relaxon.typo")
    assert explain(fault) is fault


IMPORT_ALL = """
import importlib, sys
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed.append(f"{name}: {error}")
print("\\n".join(failed))
"""


def test_all_but_what_is_for_torch_s_tensors_is_imported_without_torch(tmp_path):
    everything = modules("core", "wire", "implicit", "solvers", "neuromorphic", "server", "client", "aio", "cli")
    names = [name for name in everything if ".petsc" not in name and not NEED_TORCH.match(name)]
    assert len(names) > 200
    done = run_without(("torch",), tmp_path, "-c", IMPORT_ALL, *names)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


NAMED = """
import json, sys
import numpy as np
told = {}
for line in sys.argv[1:]:
    try:
        exec(line)
        told[line] = ""
    except ImportError as error:
        told[line] = str(error)
print(json.dumps(told))
"""
TORCH = (
    "from relaxon.neuromorphic.equilibrium import EquilibriumClassifier",
    "from relaxon.neuromorphic.energy import EnergyDensity",
    "from relaxon.neuromorphic.boosting import train_sequentially",
    "from relaxon.neuromorphic.diagnostics import el2n",
    "from relaxon.solvers import LearnedCycle",
    "from relaxon.solvers.torch import poisson_solve",
    "import relaxon.solvers.torch.faces",
    "import relaxon.implicit",
    "from relaxon.implicit.options import ImplicitOptions",
    "from relaxon.solvers.interface.registry import find_solver; find_solver('dcdm-cnn')",
    "from relaxon.solvers.interface.registry import find_solver; find_solver('dcdm@cuda')",
    "from relaxon.solvers.dcdm.cnn import load_network; load_network(None)",
    "from relaxon.neuromorphic.boosting.networks.export import to_torch; to_torch(None)",
    "from relaxon.neuromorphic.convex.export import to_torch; to_torch(None)",
)


def test_in_process_what_needs_torch_names_its_extra(tmp_path):
    works = "from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor as G; G(2)"
    done = run_without(("torch",), tmp_path, "-c", NAMED, works, *TORCH)
    told = json.loads(done.stdout)
    assert told.pop(works) == ""
    for line in TORCH:
        assert 'torch, which is not installed; install it with: pip install "relaxon[neuromorphic]"' in told[line], line


OTHERS = {
    "from relaxon.solvers.interface.registry import find_solver; find_solver('pyamg-sa')": "pyamg",
    "from relaxon.solvers import PyAMG; PyAMG().prepare(None)": "pyamg",
    "from relaxon.solvers import AlgebraicMultigridCG; AlgebraicMultigridCG().prepare_matrix(None)": "pyamg",
    "from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier": "sklearn",
    "from relaxon.neuromorphic.convex import ConvexNetworkClassifier": "sklearn",
    "from relaxon.neuromorphic.energy.noise.flow import FlowNoise; FlowNoise((2,))": "zuko",
    "from relaxon.neuromorphic.boosting.networks.export import to_onnx; to_onnx(None, '')": "onnx",
    "from relaxon.neuromorphic.tabular.tables import _read_parquet; _read_parquet(None)": "pyarrow",
}


def test_in_process_what_needs_other_packages_names_their_extra(tmp_path):
    done = run_without(tuple(set(OTHERS.values())), tmp_path, "-c", NAMED, *OTHERS)
    told = json.loads(done.stdout)
    for line, package in OTHERS.items():
        assert f"{package}, which is not installed" in told[line], line
        assert f'pip install "relaxon[{find_extra([package])}]"' in told[line], line


def test_the_doctor_calls_a_machine_without_torch_ready_and_says_what_it_cannot_do(tmp_path):
    report = json.loads(run_without(("torch", "zuko"), tmp_path, "-m", "relaxon", "doctor", "--json").stdout)
    assert report["ready"], report["problems"]
    lacking = {one["name"]: (one["missing"], one["extra"]) for one in report["engines"] if one["missing"]}
    assert lacking["equilibrium"] == (["torch"], "neuromorphic")
    assert {"poisson", "linear", "boosting"}.isdisjoint(lacking)
    shown = run_without(("torch",), tmp_path, "-m", "relaxon", "doctor").stdout
    assert 'equilibrium needs torch: pip install "relaxon[neuromorphic]"' in shown
    solvers = run_without(("torch",), tmp_path, "-m", "relaxon", "solvers").stdout
    assert 'needs torch: pip install "relaxon[neuromorphic]"' in solvers


def test_a_command_that_needs_torch_says_what_to_install(tmp_path):
    done = run_without(("torch",), tmp_path, "-m", "relaxon", "train", "equilibrium", "--data", "digits")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith('pip install "relaxon[neuromorphic]"')
    assert "Traceback" not in done.stderr
    done = run_without(("torch",), tmp_path, "-m", "relaxon", "solve", "--size", "8", "--solver", "dcdm-cnn")
    assert done.returncode == 1
    assert 'it needs torch: pip install "relaxon[neuromorphic]"' in done.stderr


UNLOADED = """
import sys
import numpy as np, relaxon, relaxon.cli.doctor
from relaxon.client import BoostingSettings, InvalidArgument
from relaxon.server.app import EmbeddedServer
from relaxon.solvers import PyAMG

with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    assert all(engine.available for engine in client.status().engines)
    client.poisson.list_solvers(), client.linear.list_solvers(), client.models.list()
    with client.poisson.grid(np.zeros((8, 8), np.uint8), boundary="dirichlet") as grid:
        for solver in ("cg", "pyamg-sa", "scipy-direct"):
            assert grid.solve(np.ones((8, 8)), solver=solver).converged
    try:
        client.boosting.train(np.eye(4), np.ones(4), settings=BoostingSettings(n_units=-1))
    except InvalidArgument:
        pass
    assert "sklearn" in sys.modules
print("torch" in sys.modules)
"""


def test_where_torch_is_installed_it_is_not_loaded_by_what_does_not_need_it(tmp_path):
    done = run_without((), tmp_path, "-c", UNLOADED)
    assert done.stdout.strip() == "False", done.stderr
