"""What has to be so before the first test."""

import gc
import os

import pytest

from relaxon.server import threads

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
threads.not_for_others("PYTEST_CURRENT_TEST")


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
