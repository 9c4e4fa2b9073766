"""The examples of implicit differentiation: each runs in a small form, and each derivative is that of its solver."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples" / "implicit"
SIZES = {
    "svm_hyperparameters": "40",
    "dataset_distillation": "12",
    "dictionary_learning": "16",
    "molecular_dynamics": "12",
    "error_bound": "30",
}


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_every_example_has_a_test():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_an_example_reaches_what_it_says_and_draws_it(name, tmp_path, monkeypatch, capsys):
    example = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [name, SIZES[name], str(tmp_path / "picture.png")])
    assert example.main() == 0, capsys.readouterr().out
    assert (tmp_path / "picture.png").stat().st_size > 4_000


def difference(function, at, direction, width=1e-5):
    return (function(at + width * direction) - function(at - width * direction)) / (2 * width)


def test_the_three_solvers_of_the_svm_find_one_point_and_one_gradient():
    import svm_hyperparameters as svm

    data, theta = svm.load(60), torch.tensor(20.0, dtype=torch.float64)
    found = svm.gradients(data, 20.0)
    exact = difference(
        lambda t: svm.validation_loss(svm.solve_by_block_descent(t, data, tolerance=1e-13), t, data),
        theta,
        torch.ones_like(theta),
        1e-4,
    )
    for name, tolerance in (("projected gradient", 1e-6), ("block coordinate descent", 1e-6)):
        assert found[name][0] == pytest.approx(float(exact), rel=tolerance)
        assert found[name][1] < 1e-9
    # Mirror descent only comes near a vertex; its residual says how near.
    assert found["mirror descent"][1] > found["projected gradient"][1]
    assert found["mirror descent"][0] == pytest.approx(float(exact), rel=0.2)


def test_the_svm_s_gradient_that_is_written_out_is_that_of_its_objective():
    import svm_hyperparameters as svm

    data, theta = svm.load(20), torch.tensor(3.0, dtype=torch.float64)
    dual = torch.softmax(torch.randn(data.y.shape, generator=torch.Generator().manual_seed(0)).double(), -1)
    slope = torch.func.grad(svm.dual_objective)(dual, theta, data)
    torch.testing.assert_close(svm.dual_gradient(dual, theta, data), slope)


def test_the_gradient_of_the_distilled_images_is_that_of_the_trained_classifier_s_loss():
    import dataset_distillation as distillation
    from torch.nn.functional import cross_entropy

    images, labels, _, _ = distillation.load()
    generator = torch.Generator().manual_seed(1)
    distilled, direction = torch.rand(2, 10, 64, generator=generator, dtype=torch.float64)
    distilled.requires_grad_()

    def loss(pixels):
        return cross_entropy(images @ distillation.train(distillation.UNTRAINED, pixels), labels)

    (slope,) = torch.autograd.grad(loss(distilled), distilled)
    with torch.no_grad():
        exact = difference(loss, distilled, direction, 3e-3)
    assert float((slope * direction).sum()) == pytest.approx(float(exact), rel=1e-4)


def test_the_derivative_of_sparse_codes_in_the_dictionary_is_that_of_the_solver():
    import dictionary_learning as dictionary

    images, _, _, _ = dictionary.load(train=8)
    generator = torch.Generator().manual_seed(2)
    atoms = torch.nn.functional.normalize(images + 0.1 * torch.rand(8, 64, generator=generator, dtype=torch.float64))
    weights = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    direction = torch.randn(8, 64, generator=generator, dtype=torch.float64)

    def value(atoms):
        return (weights * dictionary.encode(None, atoms, images)).sum()

    slope = torch.func.grad(value)(atoms)
    codes = dictionary.encode(None, atoms, images)
    assert 0 < (codes == 0).sum() < codes.numel()
    assert float((slope * direction).sum()) == pytest.approx(float(difference(value, atoms, direction)), rel=1e-5)


def test_the_sensitivity_of_a_packing_is_that_of_its_simulation():
    import molecular_dynamics as dynamics

    origin, diameter = dynamics.scatter(10), torch.tensor(0.6, dtype=torch.float64)
    one = torch.ones_like(diameter)
    _, moves = torch.func.jvp(lambda d: dynamics.positions(origin, d, origin), (diameter,), (one,))
    exact = difference(lambda d: dynamics.come_to_rest(origin, d, origin), diameter, one, 1e-6)
    torch.testing.assert_close(moves, exact, rtol=1e-4, atol=1e-5)
    assert moves.abs().max() > 0.1


@pytest.mark.parametrize("name", ["ridge regression", "logistic regression"])
def test_the_implicit_error_falls_as_the_solver_s_and_stays_within_the_bound(name):
    """Theorem 1 of Blondel et al. 2022; the unrolled error falls later, and owes nothing to the bound."""
    import error_bound

    problem = error_bound.PROBLEMS[name]()
    rows = error_bound.measure(problem, [1, 4, 16, 40, 80])
    assert all(row.implicit <= row.bound for row in rows)
    # Proportional, not only below: the ratio of the errors settles, over orders of magnitude of the solution's.
    constants = [row.implicit / row.solution for row in rows[1:]]
    assert rows[1].solution > 30 * rows[-1].solution
    assert max(constants) < 1.5 * min(constants)
    assert rows[-1].unrolled > 2 * rows[-1].implicit
    jacobian = error_bound.implicit_jacobian(problem, error_bound.solve(problem))
    direction = torch.ones_like(problem.theta)
    exact = difference(lambda theta: error_bound.solve(problem._replace(theta=theta)), problem.theta, direction)
    along = jacobian @ direction if jacobian.ndim == 2 else jacobian
    torch.testing.assert_close(along, exact, rtol=1e-6, atol=1e-8)
