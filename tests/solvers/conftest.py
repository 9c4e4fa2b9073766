"""What several tests of the solvers need."""

import pytest
from copies import make_copy


@pytest.fixture
def copy(tmp_path):
    """A copy of what kernels need, with two small ones of its own: see `copies`."""
    return make_copy(tmp_path)
