"""Fixtures of the equilibrium propagation tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def digits():
    """Twenty digits in double precision, and their classes."""
    torch = pytest.importorskip("torch")
    from relaxon.neuromorphic.equilibrium import datasets

    data = datasets.digits().flat()
    return torch.from_numpy(data.x[:20]).double(), torch.from_numpy(data.y[:20])
