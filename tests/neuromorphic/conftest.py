"""Fixtures of the equilibrium propagation tests."""

import pytest


@pytest.fixture(scope="session")
def digits():
    """Twenty digits in double precision, and their classes."""
    torch = pytest.importorskip("torch")
    from relaxon.neuromorphic.equilibrium import datasets

    data = datasets.digits().flat()
    return torch.from_numpy(data.x[:20]).double(), torch.from_numpy(data.y[:20])


@pytest.fixture
def brief_search(monkeypatch):
    """Few and short chains in the search for what the noise of an estimate of log Z misses: for tests that are not
    about that search, which is most of what a small density's fit takes.
    """
    pytest.importorskip("torch")
    from relaxon.neuromorphic.energy.partition import far_modes, importance_sampling

    shorter = {
        importance_sampling: {"PROBES": 16, "PROBE_WARM_UP": 2, "PROBE_STEPS": 2},
        far_modes: {"INSIDE": 8, "OUTSIDE": 8, "STAGES": 2, "MOVES": 1, "SETTLING": 2, "SPREADING": 6, "KEPT": 4},
    }
    for module, constants in shorter.items():
        for name, value in constants.items():
            assert value < getattr(module, name)
            monkeypatch.setattr(module, name, value)
