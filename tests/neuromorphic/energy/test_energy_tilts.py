"""An energy that tilts its own noise distribution: weights without `log q` are those with it."""

from __future__ import annotations

import copy

import pytest
import torch

from relaxon.neuromorphic.energy import ENCE, MECO, NCE, MixtureNoise, MLPEnergy, TiltedEnergy, planar
from relaxon.neuromorphic.energy.objectives.noise_contrastive import ObjectiveState


@pytest.mark.parametrize("objective", [MECO(), MECO.published(), NCE(), ENCE()], ids=lambda one: repr(one)[:40])
def test_a_step_is_that_of_the_energy_taken_as_any_other(objective, monkeypatch):
    data = torch.from_numpy(planar("two-moons").sample(500, 1))
    noise = MixtureNoise.fit(data, seed=0)
    energy = TiltedEnergy(noise, MLPEnergy(2, (16,), seed=3).double())
    readings, gradients = [], []
    for known in (True, False):
        mine = copy.deepcopy(energy.tilt)
        one = TiltedEnergy(noise, mine)
        working = objective.begin(one, noise, data, 256, 0)
        assert working.tilt is mine
        if not known:
            monkeypatch.setattr(ObjectiveState, "tilt", None)
        for step in range(3):
            reading = working.read(data[100 * step : 100 * step + 100], torch.Generator().manual_seed(step))
            mine.zero_grad()
            reading.loss.backward()
            with torch.no_grad():
                for parameter in mine.parameters():
                    parameter -= 0.05 * parameter.grad
        readings.append(reading)
        gradients.append(torch.cat([p.grad.reshape(-1) for p in mine.parameters()]))
    one, two = readings
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-7, atol=1e-10)
    assert one.log_partition == pytest.approx(two.log_partition, abs=1e-9)
    assert one.value == pytest.approx(two.value, rel=1e-7)
    assert one.effective_sample_size == pytest.approx(two.effective_sample_size, rel=1e-7)
