"""How results look in a notebook: short, escaped, drawn where matplotlib is there, and helpful where it is not."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from relaxon.client import BoostingSettings, EquilibriumSettings
from relaxon.core.html import residual_curve, table
from relaxon.solvers import PoissonGrid, Result, solve

CELLS = np.zeros((10, 9, 8), np.uint8)
CELLS[:, :, 7] = 2
CELLS[3:5, 3:5, 3] = 1
GRID = PoissonGrid(CELLS)
SOLUTION = solve(GRID, np.where(GRID.fluid, 1.0, 0.0), solver="cg")
X = np.random.default_rng(0).standard_normal((40, 3))


def test_a_solution_s_repr_is_a_line_that_says_how_it_ended():
    text = repr(SOLUTION)
    assert "\n" not in text
    assert text.startswith(f"Solution(CONVERGED by 'cg', {SOLUTION.iterations} iterations")
    assert "(10, 9, 8)" in text


def test_a_solution_s_table_has_its_verdict_its_message_escaped_and_a_falling_curve():
    html = replace(SOLUTION, result=Result.MAX_ITERATIONS, message="<script>alert(1)</script>")._repr_html_()
    assert "<strong>max iterations</strong>" in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    heights = [float(pair.split(",")[1]) for pair in re.findall(r'points="([^"]*)"', html)[0].split()]
    assert len(heights) == SOLUTION.iterations + 1
    assert heights[-1] == max(heights)  # SVG counts from above


@pytest.mark.parametrize("residuals", [[], [1.0], [0.0, 0.0], [np.nan, np.inf, -1.0]])
def test_a_curve_without_two_sound_points_is_left_out(residuals):
    assert residual_curve(np.array(residuals)) == ""
    assert "<svg" not in table("nothing", {"a": 1}, residual_curve(np.array(residuals)))


def test_a_long_history_is_thinned_but_keeps_its_ends():
    curve = residual_curve(np.geomspace(1.0, 1e-9, 100_000))
    points = re.findall(r'points="([^"]*)"', curve)[0].split()
    assert len(points) <= 400
    assert points[0].startswith("3.0,")
    assert points[-1].startswith("237.0,")


def test_a_solution_s_plot_has_the_residuals_and_a_slice_with_solids_and_air():
    figure = SOLUTION.plot(CELLS)
    left, right = figure.axes[:2]
    np.testing.assert_array_equal(left.lines[0].get_ydata(), SOLUTION.residuals)
    assert left.lines[1].get_ydata()[0] == SOLUTION.tolerance
    assert {text.get_text() for text in right.get_legend().get_texts()} == {"solid", "air"}
    assert figure._repr_png_().startswith(b"\x89PNG")
    packed = solve(GRID, np.ones(GRID.unknowns), solver="cg").plot()
    assert len(packed.axes) == 1
    with pytest.raises(ValueError, match=r"^cells must have the solution's shape"):
        SOLUTION.plot(CELLS[1:])


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r'plot\(\) needs matplotlib, .* pip install "relaxon\[plot\]"'):
        SOLUTION.plot()
    assert "converged" in SOLUTION._repr_html_()


def test_a_grid_a_job_and_the_models_are_shown(client):
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        assert "10×9×8" in grid._repr_html_()
        assert grid.solve(np.ones(CELLS.shape), solver="cg").plot(CELLS).axes
    settings = BoostingSettings(n_units=3, random_state=0)
    job = client.boosting.train(X, X[:, 0], settings=settings)
    model = job.result()
    figure = model.plot()
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), model.train_loss)
    assert len(figure.axes[-1].patches) == 3
    assert model.name in model._repr_html_()
    assert job.name in job._repr_html_()
    listed = next(one for one in client.boosting.models() if one.name == model.name)
    assert listed.name in listed._repr_html_()
    with pytest.raises(ValueError, match="ask for it by name"):
        listed.plot()
    relaxed = client.equilibrium.train(
        X, X[:, 0] > 0, settings=EquilibriumSettings(hidden_sizes=(4,), epochs=2, random_state=0)
    ).result()
    assert len(relaxed.plot().axes) == 2
    assert "3 – 4 – 2" in relaxed._repr_html_()
