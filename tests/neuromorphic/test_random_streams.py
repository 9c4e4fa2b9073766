"""Fitting with a seed neither reads nor moves the caller's global random streams, NumPy's and torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_engines import engines

from relaxon.neuromorphic.energy import ConvolutionalEnergy

X = np.random.default_rng(0).standard_normal((80, 2))
Y = (X[:, 0] > 0).astype(int)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", engines())
def test_the_global_streams_stay_where_they_are(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the stream that must be left alone
    of_torch, of_numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    engines()[name].fit(X, Y)
    assert torch.equal(torch.get_rng_state(), of_torch)
    after = np.random.get_state()  # noqa: NPY002
    assert (after[2], after[1].tobytes()) == (of_numpy[2], of_numpy[1].tobytes())


def test_a_convolutional_energy_draws_from_its_seed_alone() -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(ConvolutionalEnergy((1, 8, 8), (4, 4), seed=3).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
