"""What has to be so before the first test."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from relaxon.server.config import threads

try:
    import fcntl
except ImportError:  # this system has none
    fcntl = None

COMPILING = pytest.StashKey()

# Before anything loads torch: threads that spin while they wait make two test processes many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes side by side have a core each: two threads of torch or BLAS in each of two would only wait for one
    # another. Kernels are divided among as many threads as ever.
    os.environ.setdefault("RELAXON_NUM_THREADS", str(max(2, os.cpu_count() or 1)))
    for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")
# Servers that are started as processes: what their solves need is compiled when it is needed.
os.environ.setdefault("RELAXON_COMPILE", "")


# pytest writes the name of each test there: jobs of two tests would not be forked from one process.
threads.keep_from_others("PYTEST_CURRENT_TEST")

COMPILE = (
    """
from relaxon.solvers.precompile.compiling import compile_kind
from relaxon.solvers.precompile.table import load_table

for kind in load_table().kinds:
    compile_kind(kind)
""",
    """
import warnings
import numpy as np
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.convex import ConvexNetworkRegressor

warnings.simplefilter("ignore")
x = np.random.default_rng(0).standard_normal((100, 3))
for estimator in (
    GradientBoostedNetworkRegressor(4, random_state=0),
    GradientBoostedNetworkClassifier(4, binary=True, random_state=0),
    ConvexNetworkRegressor(n_patterns=5, random_state=0),
):
    estimator.fit(x, x[:, 0] > 0).predict(x)
""",
)
"""What the most tests run, which several test processes would otherwise compile at the same time, each for itself."""


def pytest_configure(config):
    """Where all tests run in several processes, compile what the most run while those collect their tests."""
    everything = config.args_source == config.ArgsSource.TESTPATHS
    if fcntl is not None and everything and getattr(config.option, "dist", "no") != "no":
        being_compiled = Path(tempfile.mkdtemp(), "being-compiled")
        with being_compiled.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held by those processes for as long as one lives
            environment = os.environ | {"PYTHONPATH": str(config.rootpath / "src")}
            processes = [
                subprocess.Popen([sys.executable, "-c", program], env=environment, pass_fds=(lock.fileno(),))
                for program in COMPILE
            ]
        config.stash[COMPILING] = being_compiled, processes


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell a test process what to wait for."""
    if COMPILING in node.config.stash:
        being_compiled, _ = node.config.stash[COMPILING]
        node.workerinput["compiling"] = str(being_compiled)


def pytest_unconfigure(config):
    """Leave nothing of that behind."""
    if COMPILING in config.stash:
        being_compiled, processes = config.stash[COMPILING]
        for process in processes:
            process.terminate()
            process.wait()
        shutil.rmtree(being_compiled.parent, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    """Wait for what is being compiled."""
    being_compiled = getattr(session.config, "workerinput", {}).get("compiling")
    if being_compiled is not None:
        with open(being_compiled) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)


def pytest_collection_modifyitems(config, items):
    """With `--secure`, leave out what makes its own way to a server, past what is secured."""
    if config.getoption("secure"):
        for item in items:
            if item.get_closest_marker("in_clear"):
                item.add_marker(pytest.mark.skip(reason="makes its own way to the server, in clear"))


def pytest_collection_finish(session):
    """Leave what there is now, three million objects, to no garbage collection: each would take half a second."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser):
    parser.addoption("--secure", action="store_true", help="have every server ask for a token over TLS")


@pytest.fixture(scope="session", autouse=True)
def secured(request, tmp_path_factory):
    """With `--secure`, the tests' servers and the ways to them are secured."""
    if not request.config.getoption("secure"):
        yield
        return
    from secured import everything_secured

    with everything_secured(tmp_path_factory.mktemp("secured")):
        yield
