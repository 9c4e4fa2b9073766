"""What several tests of the solvers need."""

import pytest
from copies import make_copy
from warm import WarmProcess


@pytest.fixture(scope="module")
def warm():
    """What makes new processes of the tests of one file: see `warm`."""
    process = WarmProcess()
    yield process
    process.close()


@pytest.fixture
def copy(tmp_path):
    """A copy of what kernels need, with two small ones of its own: see `copies`."""
    return make_copy(tmp_path)
