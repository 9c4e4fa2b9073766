"""The smoke plume: what a projection must achieve, and what a simulation must not do."""

import numpy as np
import pytest

from relaxon.solvers import CellType, gallery
from relaxon.solvers.plume import SmokePlume


def test_a_projection_leaves_no_divergence_beyond_the_tolerance():
    plume = SmokePlume((14, 12, 18))
    for _ in range(4):
        report = plume.step(solver="ic-cg", rtol=1e-8)
        assert report.solution.converged
        assert report.divergence_before > 1e-2
        assert report.divergence_after < 1e-5 * report.divergence_before


def test_smoke_stays_between_nothing_and_all_and_rises():
    plume = SmokePlume((12, 12, 16))
    heights = []
    for _ in range(10):
        plume.step(solver="mg-cg", rtol=1e-5)
        assert plume.smoke.min() >= 0
        assert plume.smoke.max() <= 1
        heights.append(float((plume.smoke.sum((0, 1)) * np.arange(16)).sum() / plume.smoke.sum()))
    assert heights[-1] > heights[0] + 0.3


def test_walls_and_sphere_move_as_they_should():
    plume = SmokePlume((16, 16, 16))
    plume.step(solver="cg")
    before = plume.grid.cells.copy()
    for _ in range(8):
        plume.step(solver="cg")
    assert (plume.grid.cells != before).any()
    assert not plume.velocity[0][[0, -1]].any()
    assert not plume.velocity[2][:, :, 0].any()
    assert not plume.smoke[plume.grid.cells == CellType.SOLID].any()


def test_what_is_symmetric_stays_so():
    plume = SmokePlume((12, 12, 14), moving=False)
    for _ in range(4):
        plume.step(solver="cg", rtol=1e-10)
    np.testing.assert_allclose(plume.smoke, plume.smoke[::-1], atol=1e-6)
    np.testing.assert_allclose(plume.smoke, plume.smoke.transpose(1, 0, 2), atol=1e-6)


def test_the_gallery_takes_its_system_and_the_simulation_goes_on_from_it():
    problem = gallery.make("plume", 10)
    assert problem.grid.nullspace.dimension == 0
    assert np.linalg.norm(problem.b) > 0
    plume = SmokePlume((10, 10, 10))
    first = plume.pressure_problem()
    np.testing.assert_array_equal(plume.pressure_problem().b, first.b)  # asking twice advances nothing


@pytest.mark.parametrize("arguments", [{"shape": (3, 8, 8)}, {"shape": (8, 8)}, {"shape": (8, 8, 8), "time_step": 0.0}])
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="^(shape|time_step) must"):
        SmokePlume(**arguments)
