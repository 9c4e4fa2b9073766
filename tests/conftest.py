"""What has to be so before the first test."""

import os
import subprocess
import sys

import pytest

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

FITS = """
import numpy as np
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
X = np.random.default_rng(0).standard_normal((40, 2))
for options in ({}, {"restarts": 2}, {"newton": "published"}):
    GradientBoostedNetworkRegressor(2, random_state=0, **options).fit(X, X[:, 0]).predict(X)
    GradientBoostedNetworkClassifier(2, random_state=0, **options).fit(X, X[:, 0] > 0).predict(X)
"""


@pytest.fixture(scope="session", autouse=True)
def kernels_come_from_the_cache(request):
    """Have another process compile the kernels of boosting, where tests need them, before this one asks for them.

    A kernel that a process has just compiled rounds differently, in the last place, from the same kernel read from the
    cache; workers read theirs from there, and what they fit is compared bit for bit with what is fitted here.
    """
    pages = ("boosting", "service.md", "train-on-the-server.md", "train-on-a-cluster.md")
    if any(page in item.nodeid for item in request.session.items for page in pages):
        subprocess.run([sys.executable, "-c", FITS], check=True, timeout=300)


def pytest_collection_modifyitems(config, items):
    """With `--secure`, leave out what makes its own way to a server, past what is secured."""
    if config.getoption("secure"):
        for item in items:
            if item.get_closest_marker("in_clear"):
                item.add_marker(pytest.mark.skip(reason="makes its own way to the server, in clear"))


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
