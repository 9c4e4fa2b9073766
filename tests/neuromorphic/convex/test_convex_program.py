"""The convex program: projections, optimum, certificate, network, against plain twins and the mathematics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor, ConvexOutcome
from relaxon.neuromorphic.convex.network import recover
from relaxon.neuromorphic.convex.program.cones import ConeProjector, PatternCones, draw_patterns
from relaxon.neuromorphic.convex.program.formulation import ConvexObjective, PatternProgram, primal_value
from relaxon.neuromorphic.convex.program.losses import (
    HINGE,
    LOGISTIC,
    SQUARED,
    HingeLoss,
    LogisticLoss,
    RobustLoss,
    SoftmaxLoss,
    SquaredError,
)
from relaxon.neuromorphic.convex.program.maps import PatternMap, RobustMap
from relaxon.neuromorphic.convex.reference import project_plainly, run_published_admm
from relaxon.neuromorphic.convex.solving.admm import AdmmSettings, AdmmSolution, solve_admm
from relaxon.neuromorphic.convex.solving.certificate import certify
from relaxon.neuromorphic.convex.solving.refinement import refine
from relaxon.solvers.kernels.threads import num_threads

N, D, P, BETA = 40, 4, 6, 0.02


def table(seed: int = 0) -> tuple[Any, Any]:
    """Rows with a column of ones, and targets that a linear model does not reach."""
    rng = np.random.default_rng(seed)
    x = np.hstack([rng.standard_normal((N, D - 1)), np.ones((N, 1))])
    return x, np.abs(x[:, 0]) - 0.5 * x[:, 1] + 0.1 * rng.standard_normal(N)


def losses(y: Any) -> dict[str, tuple[Any, int]]:
    signs = np.where(y > np.median(y), 1.0, -1.0)[:, None]
    three = np.digitize(y, np.quantile(y, [0.3, 0.7])).astype(np.int64)
    return {
        "squared": (SquaredError(np.column_stack([y, y**2])), 2),
        "logistic": (LogisticLoss(signs), 1),
        "hinge": (HingeLoss(signs), 1),
        "softmax": (SoftmaxLoss(three, 3), 3),
        "robust hinge": (RobustLoss(HingeLoss(signs), HINGE), 1),
        "robust logistic": (RobustLoss(LogisticLoss(signs), LOGISTIC), 1),
        "robust squared": (RobustLoss(SquaredError(y[:, None]), SQUARED), 1),
    }


def program(name: str, beta: float = BETA, seed: int = 0) -> PatternProgram:
    x, y = table(seed)
    loss, outputs = losses(y)[name]
    box = np.array([0.02] * (D - 1) + [0.0]) if name.startswith("robust") else np.zeros(D)
    patterns = draw_patterns(x, P, np.random.default_rng(1))
    shares = np.linspace(1.0, 2.0, N)
    cones = PatternCones.of(x, patterns, box)
    return PatternProgram(ConvexObjective(loss, shares / shares.sum(), beta, outputs), x, patterns, cones)


def solve(made: PatternProgram, tolerance: float = 1e-4, iterations: int = 3000) -> AdmmSolution:
    return solve_admm(made, AdmmSettings(tolerance, iterations))


ALL = ["squared", "logistic", "hinge", "softmax", "robust hinge", "robust logistic", "robust squared"]


def test_projections_are_those_of_non_negative_least_squares() -> None:
    x, _ = table()
    patterns = draw_patterns(x, P, np.random.default_rng(1))
    project = ConeProjector(PatternCones.of(x, patterns, np.zeros(D)), 2 * P)
    rng = np.random.default_rng(2)
    for _ in range(3):  # from the active rows of other vectors too
        v = rng.standard_normal((2 * P, D))
        expected = [project_plainly(x, patterns[:, g % P], v[g]) for g in range(2 * P)]
        assert np.allclose(project(v), expected, atol=1e-12)


def test_projections_onto_robust_cones_satisfy_moreaus_decomposition() -> None:
    x, _ = table()
    box = np.array([0.05, 0.02, 0.03, 0.0])
    patterns = draw_patterns(x, P, np.random.default_rng(1))
    cones = PatternCones.of(x, patterns, box)
    v = np.random.default_rng(2).standard_normal((2 * P, D))
    v[:, 3] += 3.0
    p = ConeProjector(cones, 2 * P)(v)
    assert np.linalg.norm(p, axis=1).max() > 1.0
    assert cones.violation(p) < 1e-11
    assert np.allclose((p * (v - p)).sum(axis=1), 0.0, atol=1e-12)
    # v − p is in the polar cone: no direction of the cone has a positive product with it.
    inside = ConeProjector(cones, 2 * P)(np.random.default_rng(3).standard_normal((2 * P, D)))
    assert ((v - p) * inside).sum(axis=1).max() < 1e-12


def test_an_early_end_of_a_projection_is_at_the_floor_and_above_the_norm() -> None:
    x, _ = table()
    cones = PatternCones.of(x, draw_patterns(x, P, np.random.default_rng(1)), np.zeros(D))
    v = np.random.default_rng(2).standard_normal((2 * P, D))
    exact = np.linalg.norm(ConeProjector(cones, 2 * P)(v), axis=1)
    early = np.linalg.norm(ConeProjector(cones, 2 * P)(v, floor=1.0), axis=1)
    assert (early >= exact - 1e-12).all()
    assert (early[exact > 1.0] == exact[exact > 1.0]).all()
    assert (early[exact <= 1.0] <= 1.0).all()


@pytest.mark.parametrize("name", ["squared", "robust squared"])
def test_maps_and_their_adjoints_and_products_belong_together(name: str) -> None:
    made = program(name)
    rng = np.random.default_rng(0)
    q = rng.standard_normal((2, made.map.unknowns))
    z = made.map.forward(q)
    theta = rng.standard_normal(z.shape)
    assert np.isclose((z * theta).sum(), (q * made.map.adjoint(theta)).sum())
    c = made.objective.shares
    width = z.shape[1] // 2
    expected = sum((c @ np.square(z[:, k * width : (k + 1) * width])).sum() for k in range(2))
    assert np.isclose(sum(row @ made.map.gram(c) @ row for row in q), expected)
    if type(made.map) is PatternMap:
        basis = np.eye(made.map.unknowns)
        matrix = np.hstack([made.map.forward(row[None]) for row in basis])
        assert np.allclose(made.map.outer(), matrix @ matrix.T)


@pytest.mark.parametrize("name", ALL)
def test_proximal_steps_and_conjugates_satisfy_fenchels_equality(name: str) -> None:
    made = program(name)
    loss, c = made.objective.loss, made.objective.shares
    width = made.objective.outputs * (1 + D if name.startswith("robust") else 1)
    a = 3.0 * np.random.default_rng(0).standard_normal((N, width))
    for sigma in (0.01, 0.5, 20.0):
        z = loss.prox(a, sigma)
        theta = c[:, None] * sigma * (a - z)  # a subgradient of the loss at z where z is the proximal step
        dual, t = loss.dual_value(theta, c, 1.0)
        conjugate = (theta * z).sum() - loss.value(z, c)
        if t == 1.0:
            assert np.isclose(-dual, conjugate, atol=1e-12)
        else:  # the largest on the way is at least that at the end
            assert dual >= -conjugate - 1e-12


@pytest.mark.parametrize("name", ALL)
def test_both_bounds_hold_and_meet(name: str) -> None:
    made = program(name)
    solved = solve(made)
    assert solved.outcome is ConvexOutcome.CONVERGED
    assert solved.primal - solved.dual <= 1e-4 * solved.primal
    # The upper bound is the objective at a point of the constraint set.
    assert made.violation(solved.variables) < 1e-10
    assert np.isclose(primal_value(made, solved.variables), solved.primal, rtol=1e-13)
    # The lower bound is the dual's value at a feasible point; projections of another kind say so.
    dual, _ = made.objective.loss.dual_value(solved.theta, made.objective.shares, 1.0)
    assert dual >= solved.dual * (1.0 - 1e-12)
    if not name.startswith("robust"):
        back = made.map.adjoint(solved.theta).reshape(-1, P, D)
        norms = [
            np.linalg.norm(project_plainly(made.x, made.patterns[:, i], side * back[k, i]))
            for k in range(len(back))
            for i in range(P)
            for side in (-1.0, 1.0)
        ]
        assert max(norms) <= BETA * (1.0 + 1e-9)
    # No point in the constraint set is below the lower bound.
    rng = np.random.default_rng(5)
    for scale in (0.0, 0.01, 0.3):
        near = made.shrink(solved.variables + scale * rng.standard_normal(solved.variables.shape), 0.0)
        assert primal_value(made, near) >= solved.dual


def test_the_optimum_is_that_of_the_published_algorithm() -> None:
    x, y = table()
    patterns = draw_patterns(x, P, np.random.default_rng(1))
    shares = np.full(N, 1.0 / N)
    cones = PatternCones.of(x, patterns, np.zeros(D))
    made = PatternProgram(ConvexObjective(SquaredError(y[:, None]), shares, BETA, 1), x, patterns, cones)
    ours = solve(made, 1e-7)
    published = run_published_admm(x, patterns.astype(float), y, BETA, 0.05, 4000)
    assert published.infeasibility[-1] < 1e-6
    assert np.isclose(published.objective[-1], ours.primal, rtol=1e-5)
    assert np.allclose(published.groups, ours.variables.reshape(-1, D), atol=1e-3)


@pytest.mark.parametrize("name", ["squared", "logistic", "robust squared"])
def test_conjugate_gradients_give_the_factors_bounds(name: str) -> None:
    bounds = []
    for largest in (1000, 10):
        solved = solve_admm(program(name), AdmmSettings(1e-4, 60, largest_factor=largest))
        bounds.append((solved.iterations, solved.primal, solved.dual))
    assert bounds[0][0] == bounds[1][0]
    assert np.allclose(bounds[0][1:], bounds[1][1:], rtol=1e-7)


def test_residuals_fall_at_a_linear_rate() -> None:
    history = solve(program("squared"), 1e-10, 400).history
    worst = np.maximum(history.primal_residual, history.dual_residual)
    # On a logarithmic scale, the later half falls as the whole does: not as 1/k.
    steps = history.iteration
    half = len(steps) // 2
    slope = np.polyfit(steps[half:], np.log(worst[half:]), 1)[0]
    assert slope < 0.3 * (np.log(worst[half]) - np.log(worst[0])) / (steps[half] - steps[0]) < 0.0


def test_a_beta_above_the_gradients_dual_norm_gives_the_zero_network() -> None:
    made = program("logistic")
    theta = made.objective.loss.gradient(np.zeros((N, 1)), made.objective.shares)
    project = [
        np.linalg.norm(project_plainly(made.x, column, side * made.x.T @ (column * theta[:, 0])))
        for column in made.patterns.T
        for side in (-1.0, 1.0)
    ]
    least = max(project)
    assert solve(program("logistic", 1.001 * least)).iterations == 0
    some = solve(program("logistic", 0.9 * least))
    assert np.abs(some.variables).max() > 0.0


def test_the_worst_perturbation_of_the_network_is_what_the_robust_program_counts() -> None:
    made = program("robust hinge", beta=1e-3)
    solved = solve(made, 1e-3)
    hidden, output = recover(made, solved.variables)
    assert isinstance(made.map, RobustMap)
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * (D - 1))).reshape(D - 1, -1).T
    y = made.objective.loss.plain.y[:, 0]  # type: ignore[attr-defined]
    worst = np.zeros(N)
    for corner in np.hstack([corners, np.zeros((len(corners), 1))]):
        z = np.maximum((made.x + corner * made.cones.box) @ hidden.T, 0.0) @ output[:, 0]
        worst = np.maximum(worst, np.maximum(1.0 - y * z, 0.0))
    penalty = 0.5e-3 * (np.square(hidden).sum() + np.square(output).sum())
    assert np.isclose(made.objective.shares @ worst + penalty, solved.primal, rtol=1e-9)
    assert len(hidden) > 0


def test_newly_drawn_patterns_bound_the_larger_program() -> None:
    made = program("squared", 1e-3)
    solved = solve(made)
    certificate = certify(made, solved, made.x, 40, np.random.default_rng(3))
    assert certificate.drawn_violation > 0.0
    assert 0.0 < certificate.drawn_violating <= 1.0
    new = draw_patterns(made.x, 40, np.random.default_rng(3), made.patterns)
    both = np.hstack([made.patterns, new])
    assert certificate.drawn == new.shape[1]
    assert len({column.tobytes() for column in both.T}) == both.shape[1]
    larger = PatternProgram(made.objective, made.x, both, PatternCones.of(made.x, both, np.zeros(D)))
    optimum = solve(larger)
    assert certificate.drawn_dual <= optimum.primal < solved.dual


def test_all_patterns_of_a_line_leave_nothing_to_draw() -> None:
    x = np.linspace(-1.0, 1.0, 7)[:, None]
    model = ConvexNetworkRegressor(n_patterns=500, beta=1e-3, random_state=0).fit(x, np.abs(x[:, 0]))
    certificate = model.certificate_
    assert certificate.sampled == 13  # a step up or down at each of 6 gaps, and all rows
    assert certificate.drawn == 0
    assert certificate.drawn_violation == 0.0
    assert certificate.drawn_dual == certificate.dual


@pytest.mark.parametrize("kind", ["patterns", "units"])
def test_the_networks_objective_is_the_programs(kind: Any) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3)) * [1.0, 7.0, 0.1] + [5.0, 0.0, -2.0]
    y = np.column_stack([np.abs(X[:, 0] - 5.0), X[:, 1]]) * 30.0 + 8.0
    w = rng.uniform(0.5, 2.0, 50)
    settings: dict[str, Any] = {"n_patterns": 12, "beta": 0.01, "program": kind, "refinements": 0, "random_state": 0}
    model = ConvexNetworkRegressor(**settings).fit(X, y, w)
    error = (model.predict(X) - y) / model.network_.target_unit
    shares = w / w.sum()
    value = 0.5 * float(shares @ np.square(error).sum(axis=1)) + 0.01 * model.network_.penalty()
    assert np.isclose(value, model.certificate_.primal, rtol=1e-10)
    labels = (y[:, 0] > 30.0).astype(int)
    classifier = ConvexNetworkClassifier(**settings, loss="hinge").fit(X, labels)
    hinge = np.maximum(1.0 - (2.0 * labels - 1.0) * classifier.decision_function(X), 0.0).mean()
    assert np.isclose(hinge + 0.01 * classifier.network_.penalty(), classifier.certificate_.primal, rtol=1e-10)


def test_a_weight_of_two_is_a_row_given_twice() -> None:
    x, y = table()
    settings: dict[str, Any] = {"n_patterns": 5, "beta": 0.02, "max_iter": 200, "random_state": 0}
    w = np.ones(N)
    w[:7], w[7:9] = 2.0, 0.0
    weighted = ConvexNetworkRegressor(**settings).fit(x[:, :3], y, w)
    kept = np.r_[0:7, 0:7, 9:N]
    repeated = ConvexNetworkRegressor(**settings).fit(x[kept, :3], y[kept])
    assert np.array_equal(weighted.predict(x[:, :3]), repeated.predict(x[:, :3]))


def test_the_same_seed_gives_the_same_bits_at_any_number_of_threads() -> None:
    x, y = table()
    found = []
    for threads in (1, 2):
        with num_threads(threads):
            model = ConvexNetworkClassifier(n_patterns=5, max_iter=50, random_state=3).fit(x[:, :3], y > 0.5)
            found.append(model.decision_function(x[:, :3]))
    assert np.array_equal(*found)


def test_the_callback_ends_training_and_sees_bounds() -> None:
    x, y = table()
    seen: list[Any] = []
    model = ConvexNetworkRegressor(n_patterns=5, tol=1e-12, refinements=0, random_state=0)
    model.fit(x[:, :3], y, callback=lambda progress: seen.append(progress) or len(seen) == 2)
    assert model.outcome_ is ConvexOutcome.INTERRUPTED
    assert seen[1].dual <= model.certificate_.primal <= seen[0].primal
    assert model.n_iter_ == seen[1].iteration == model.history_.iteration[-1]
    limited = ConvexNetworkRegressor(n_patterns=5, tol=1e-12, max_iter=3, refinements=0, random_state=0).fit(
        x[:, :3], y
    )
    assert limited.outcome_ is ConvexOutcome.ITERATION_LIMIT
    assert limited.n_iter_ == 3


def test_constant_columns_and_constant_targets_are_fitted() -> None:
    x, y = table()
    X = np.column_stack([x[:, :2], np.full(N, 7.0)])
    settings: dict[str, Any] = {"n_patterns": 5, "beta": 0.01, "random_state": 0}
    with_constant = ConvexNetworkRegressor(**settings).fit(X, y)
    changed = X.copy()
    changed[:, 2] = 1e6
    assert np.array_equal(with_constant.predict(changed), with_constant.predict(X))
    only = ConvexNetworkRegressor(**settings).fit(np.ones((N, 2)), y)
    assert np.allclose(only.predict(np.zeros((1, 2))), y.mean())
    assert only.certificate_.sampled == 1
    flat = ConvexNetworkRegressor(**settings).fit(x[:, :3], np.full(N, 5.0))
    assert np.array_equal(flat.predict(x[:, :3]), np.full(N, 5.0))
    assert flat.n_units_ == 0


def test_refinement_lowers_the_optimum_and_the_violation() -> None:
    x, y = table()
    settings: dict[str, Any] = {"n_patterns": 6, "beta": 0.005, "random_state": 0, "certificate_draws": 200}
    plain = ConvexNetworkRegressor(**settings, refinements=0).fit(x[:, :3], y)
    refined = ConvexNetworkRegressor(**settings, refinements=4).fit(x[:, :3], y)
    assert refined.certificate_.primal < plain.certificate_.dual
    assert refined.certificate_.drawn_violation < 0.5 * plain.certificate_.drawn_violation
    assert refined.certificate_.relative_gap <= 1e-4
    # One history of all rounds: the network gets no worse when patterns join.
    assert (np.diff(refined.history_.iteration) > 0).all()
    assert (np.diff(refined.history_.primal) <= 1e-12).all()
    assert refined.n_iter_ == refined.history_.iteration[-1]


def test_refinement_starts_from_the_network_there_is_and_adds_violating_patterns() -> None:
    made = program("squared", 1e-3)
    solved = solve(made)
    found = refine(made, solved.variables, solved.theta, 5, np.random.default_rng(0))
    assert found is not None
    larger, start = found
    assert np.isclose(primal_value(larger, start), solved.primal, rtol=1e-13)
    kept = int((np.linalg.norm(solved.variables, axis=-1).max(axis=(0, 1)) > 0.0).sum())
    assert larger.patterns.shape[1] == kept + 5
    for column in larger.patterns[:, kept:].T:
        cones = PatternCones.of(made.x, column[:, None], np.zeros(D))
        one = PatternProgram(made.objective, made.x, column[:, None], cones)
        assert one.dual_norm(solved.theta) > made.objective.beta
