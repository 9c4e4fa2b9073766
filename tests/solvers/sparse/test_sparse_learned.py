"""Learned constants of multigrid on sparse matrices: what the network sees, what it may choose, its file, its training,
and that only the way to the answer is another."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from relaxon.solvers import AlgebraicMultigrid, DeepConjugateDirectionMultigrid, Result, gallery, prepare, solve
from relaxon.solvers.sparse import Constants, MatrixSystem
from relaxon.solvers.sparse.amg.constants import DEFAULTS
from relaxon.solvers.sparse.learned import cost, network, problems, training
from relaxon.solvers.sparse.learned.features import FEATURES, matrix_features, sampled_rows
from relaxon.solvers.sparse.learned.network import ConstantsNetwork, shipped
from relaxon.solvers.sparse.learned.training import ConstantsTraining, costs_of, fit, greedy, members, system_of

DISTANCE = FEATURES.index("octaves to neighbours' rows over those of all")


def features_of(a, dense=100):
    return matrix_features(MatrixSystem.of(a), dense)


def in_range(a, seed=1):
    return a @ np.random.default_rng(seed).standard_normal(a.shape[0])


def small_network(seed=0, hidden=3, caution=0.0):
    rng = np.random.default_rng(seed)
    inputs = len(FEATURES)
    shapes = [(inputs,)] * 4 + [(2, hidden, inputs), (2, hidden), (2, 2, hidden), (2, 2)]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    arrays[1] = abs(arrays[1]) + np.float32(0.5)
    arrays[2], arrays[3] = np.full(inputs, -5, np.float32), np.full(inputs, 5, np.float32)
    return ConstantsNetwork((DEFAULTS, Constants(strength=0.5), Constants(correction=1.3)), caution, *arrays)


# --- what it sees -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lognormal-3d", "elasticity-2d", "random-weights", "parts", "neumann-2d"])
def test_features_do_not_change_with_the_scale_of_a_matrix(name):
    a = gallery.matrix(name, 3_000)
    plain = features_of(a)
    assert plain.shape == (len(FEATURES),)
    assert plain.dtype == np.float32
    assert np.isfinite(plain).all()
    for power in (-200, -3, 7, 250):
        np.testing.assert_array_equal(features_of(a * 2.0**power), plain)
    np.testing.assert_allclose(features_of(a * 3.7), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["lognormal-3d", "elasticity-2d", "heavy-tailed", "triangles-2d"])
def test_features_but_for_the_distance_of_rows_do_not_change_with_their_order(name):
    a = gallery.matrix(name, 900)
    order = np.random.default_rng(0).permutation(a.shape[0])
    plain, mixed = features_of(a), features_of(sparse.csr_array(a[order][:, order]))
    same = np.arange(len(FEATURES)) != DISTANCE
    np.testing.assert_allclose(mixed[same], plain[same], rtol=1e-5, atol=1e-6)
    if name != "heavy-tailed":
        assert mixed[DISTANCE] > 1.1 * plain[DISTANCE]


def test_features_tell_what_they_are_named_for():
    def value(a, name):
        return features_of(a)[FEATURES.index(name)]

    poisson, step = gallery.matrix("laplacian-2d", 2_500), gallery.matrix("heat-step-3d", 2_500)
    assert value(poisson, "octaves of couplings a row: mean") == pytest.approx(math.log2(1 + 4 - 4 / 50), abs=1e-2)
    assert (
        value(poisson, "positive weight: mean") == 0 < value(gallery.matrix("plate-2d", 2_500), "positive weight: mean")
    )
    assert value(poisson, "weight over diagonal: 50 %") == 1.0
    assert value(step, "weight over diagonal: 50 %") == pytest.approx(0.5 / 1.5)
    assert value(step, "decades of row sum over diagonal: 50 %") == pytest.approx(math.log10(1 / 1.5), abs=1e-5)
    assert value(poisson, "decades of row sum over diagonal: 50 %") == -7
    assert value(poisson, "decades to the weakest: 50 %") == 0
    assert value(gallery.matrix("stretched-3d", 2_500), "decades to the weakest: 50 %") == pytest.approx(-4, abs=1e-5)
    assert value(gallery.matrix("stretched-3d", 2_500), "strong part: mean") == pytest.approx(1 / 3, abs=0.1)
    assert value(gallery.matrix("laplacian-2d", 40_000), FEATURES[0]) == pytest.approx(math.log10(400))


def test_a_sample_has_every_column_of_a_grid_alike():
    """With steps of a side, a sample would be of rows at one wall alone."""
    side = 32
    rows = sampled_rows(side**3)
    assert len(rows) == len(set(rows.tolist())) > 1_000
    counts = np.bincount(rows % side, minlength=side)
    assert counts.min() > 20
    assert counts.max() < 45
    np.testing.assert_array_equal(sampled_rows(700), np.arange(700))


# --- what it chooses --------------------------------------------------------------------------------------------------


def test_the_network_is_what_its_formula_says():
    net = small_network()
    f = np.random.default_rng(1).standard_normal(len(FEATURES)).astype(np.float32) * 9
    x = (np.clip(f.astype(float), -5, 5) - net.mean) / net.scale
    foretold = np.zeros((2, 3))
    for k in range(2):
        hidden = [max(0.0, float(row @ x + b)) for row, b in zip(net.hidden_weight[k], net.hidden_bias[k], strict=True)]
        for place, (row, b) in enumerate(zip(net.output_weight[k], net.output_bias[k], strict=True)):
            foretold[k, 1 + place] = float(row @ hidden + b)
    np.testing.assert_allclose(net.foretell(f), foretold, rtol=1e-4, atol=1e-4)
    assert net.choose(f) == int(foretold.mean(axis=0).argmin())
    careful = foretold.mean(axis=0) + 9 * foretold.std(axis=0)
    assert replace(net, caution=9.0).choose(f) == int(careful.argmin())


def test_features_beyond_the_training_are_taken_for_its_ends():
    net = shipped()
    wild = net.high + 10 * (net.high - net.low + 1)
    np.testing.assert_array_equal(net.foretell(wild), net.foretell(net.high))
    assert np.abs(net.standardised(wild)).max() < 100


def test_shipped_candidates_lie_within_their_bounds_and_the_first_is_without_learning():
    candidates = shipped().candidates
    assert candidates[0] == DEFAULTS
    assert len(set(candidates)) == len(candidates) > 4
    for one in candidates[1:]:
        for name, (low, high) in training.BOUNDS.items():
            assert low <= getattr(one, name) <= high
        assert one.matchings in (1, 2, 3)
        assert one.dense == DEFAULTS.dense
    chosen = {
        DeepConjugateDirectionMultigrid().constants_for(MatrixSystem.of(gallery.matrix(name, 2_000)))
        for name in ("laplacian-2d", "lognormal-3d", "elasticity-2d", "rotated-2d", "random-weights", "stretched-3d")
    }
    assert len(chosen) > 1  # it looks at the matrix
    assert chosen <= set(candidates)


# --- its file ---------------------------------------------------------------------------------------------------------


def test_a_network_is_the_same_from_its_file(tmp_path):
    net = small_network(caution=0.5)
    digest = net.save(tmp_path / "constants.safetensors")
    again = ConstantsNetwork.load(tmp_path / "constants.safetensors")
    assert (again.candidates, again.caution) == (net.candidates, net.caution)
    for name in network.ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(net, name))
    assert again.save(tmp_path / "other.safetensors") == digest
    a = gallery.matrix("lognormal-3d", 2_000)
    solver = DeepConjugateDirectionMultigrid(tmp_path / "constants.safetensors")
    assert solver.constants_for(MatrixSystem.of(a)) == net.candidates[net.choose(features_of(a))]


def test_a_file_of_another_version_features_or_shape_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "constants.safetensors"
    for name, value in (("VERSION", "0"), ("FEATURES", FEATURES[::-1])):
        with monkeypatch.context() as patch:
            patch.setattr(network, name, value)
            small_network().save(path)
        with pytest.raises(ValueError, match="^weights must be of version 1 of the network of a matrix's constants"):
            ConstantsNetwork.load(path)
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="^weights must be a safetensors file"):
        ConstantsNetwork.load(path)
    with pytest.raises(ValueError, match="^mean must be finite float32 of shape"):
        replace(small_network(), mean=np.zeros(3, np.float32))


def test_shipped_weights_are_those_that_their_card_describes(monkeypatch):
    net, card = shipped(), network.card()
    assert net.count == card["numbers"]
    assert net.count * 4 < 20_000
    assert card["seed_gain"] > card["seed_gain_of_one_for_all"]
    assert card["settings"]["candidates"] == len(net.candidates)
    monkeypatch.setattr(network, "card", lambda: card | {"sha256": "0" * 64})
    with pytest.raises(ValueError, match="^constants.safetensors must have the SHA-256 0000"):
        shipped.__wrapped__()


# --- how it solves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lognormal-3d", "elasticity-2d", "parts", "neumann-2d", "heavy-tailed"])
def test_learned_and_unlearned_give_the_same_answer_to_the_tolerance(name):
    a = gallery.matrix(name, 2_500)
    b = in_range(a)
    learned, unlearned = (solve(a, b, solver=solver, rtol=1e-10) for solver in ("dcdm", "amg"))
    assert learned.result is Result.CONVERGED
    assert learned.solver == "dcdm"
    assert learned.message.startswith("constants of the network: ")
    assert np.linalg.norm(b - a @ learned.x) <= 1.01e-10 * np.linalg.norm(b)
    np.testing.assert_allclose(learned.x, unlearned.x, atol=1e-5 * abs(unlearned.x).max())
    again = solve(a, b, solver="dcdm", rtol=1e-10)
    np.testing.assert_array_equal(again.x, learned.x)
    constants = DeepConjugateDirectionMultigrid().constants_for(MatrixSystem.of(a))
    assert learned.info["strength"] == constants.strength
    if name != "parts":  # where rows are eliminated first
        given = solve(a, b, solver=AlgebraicMultigrid(constants), rtol=1e-10)
        np.testing.assert_array_equal(given.x, learned.x)


def test_a_network_sees_and_scales_as_the_matrix_does():
    a = gallery.matrix("lognormal-3d", 2_000)
    b = in_range(a)
    plain, scaled = solve(a, b, solver="dcdm"), solve(a * 2.0**-140, b, solver="dcdm")
    np.testing.assert_array_equal(scaled.x * 2.0**-140, plain.x)


def test_rows_that_stand_alone_and_none_at_all_are_solved():
    d = sparse.csr_array(sparse.diags_array(10.0 ** np.random.default_rng(0).uniform(-8, 8, 300)))
    assert solve(d, np.ones(300), solver="dcdm", rtol=1e-12).converged
    assert prepare(sparse.csr_array([[4.0]]), solver="dcdm").solve(np.array([2.0])).x == pytest.approx(0.5)


# --- its training -----------------------------------------------------------------------------------------------------


def test_a_cost_counts_what_set_up_and_cycles_touch():
    """Twice the iterations are twice the cost of all iterations, and more levels' visits cost more."""
    system = MatrixSystem.of(gallery.matrix("lognormal-3d", 3_000))
    b = system.project(np.random.default_rng(0).standard_normal(system.unknowns))
    found = []
    for constants in (Constants(twice=0.0), Constants(twice=1.0, budget=9.0, enough=0.0)):
        prepared = prepare(system.matrix, solver=AlgebraicMultigrid(constants))
        solution = prepared.solve(b)
        engine = prepared.engine
        setup, each = cost.setup_cost(engine), cost.iteration_cost(engine, solution.iterations)
        entries = [level.entries for level in engine.hierarchy.levels]
        if constants.twice == 0.0:
            least = 2 * sum(entries) / system.matrix.nnz + cost.OUTER_ENTRY
            assert each == pytest.approx(least + cost.OUTER_ROW * system.unknowns / system.matrix.nnz)
        fractional = cost.fractional_iterations(solution)
        assert solution.iterations - 1 < fractional <= solution.iterations
        assert cost.solve_cost(engine, solution) == pytest.approx(setup + fractional * each)
        found.append(each)
    assert found[1] > 1.3 * found[0]


def test_random_systems_are_the_same_for_the_same_seed_and_of_every_family():
    settings = ConstantsTraining(least=300, most=500, seed=3)
    families = set()
    for index in range(len(problems.PROBLEMS)):
        family, system, b = system_of(settings, index, survey=False)
        again = system_of(settings, index, survey=False)[1]
        assert (system.matrix != again.matrix).nnz == 0
        assert system.defect(b)[0] < 1e-12
        assert 150 < system.unknowns < 800
        families.add(family)
    assert families == set(problems.PROBLEMS)
    first, later = (system_of(settings, index, survey=False)[1].unknowns for index in (0, len(problems.PROBLEMS)))
    assert first != later
    assert system_of(settings, 0, survey=True)[1].unknowns != first


def test_greedy_takes_the_candidates_that_help_most_together():
    costs = np.array([[0, -1.0, -0.6, 0.5, 0], [0, 0.9, -0.6, 0.5, 0], [0, 0.9, 0.0, -0.3, 0], [0, 0.9, 0, -0.3, 0]])
    assert greedy(costs, 3) == [0, 2, 3]
    assert greedy(costs, 99)[0] == 0
    assert sorted(greedy(costs, 99)) == [0, 1, 2, 3, 4]


def small_table(count=40, seed=0):
    """Features of which the first decides which of two candidates is good."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, len(FEATURES)))
    features[:, 0] += 2 * np.sign(features[:, 0])
    first = np.where(features[:, 0] > 0, -0.4, 0.5)
    return features, np.stack([np.zeros(count), first, 0.1 - first], axis=1)


def test_a_fit_lowers_its_loss_finds_what_decides_and_is_the_same_again(tmp_path):
    settings = ConstantsTraining(tmp_path, hidden=6, members=2, steps=120, rate=2e-2)
    pool = [DEFAULTS, Constants(strength=0.5), Constants(correction=1.3)]
    features, costs = small_table(200)
    fitted, losses = members(settings, pool, features, costs)
    assert losses[-1] < losses[0] - 0.5
    fresh, right = small_table(200, seed=1)
    taken = [fitted.choose(row.astype(np.float32)) for row in fresh]
    assert np.mean(taken == right.argmin(axis=1)) > 0.95
    again, _ = members(settings, pool, features, costs)
    for name in network.ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))
    other, _ = members(replace(settings, seed=1), pool, features, costs)
    assert (other.hidden_weight != fitted.hidden_weight).any()


def test_gains_are_told_of_systems_that_a_fit_did_not_have(tmp_path):
    """Costs that no feature decides: what was taken by chance is no gain."""
    settings = ConstantsTraining(tmp_path, hidden=6, members=1, steps=60, rate=2e-2)
    pool = [DEFAULTS, Constants(strength=0.5), Constants(correction=1.3)]
    features, _ = small_table(130)
    costs = np.random.default_rng(3).permuted(np.tile([0.0, 0.5, -0.5], (130, 1)), axis=1)
    costs[:, 0] = 0.0
    _, figures = fit(settings, pool, features, costs)
    assert figures["family_gain"] < 1.15 < figures["family_gain_of_the_best"]
    assert figures["kept"] == 26


def test_a_training_ends_in_a_file_a_card_and_the_same_bits_and_goes_on_where_it_was(tmp_path):
    few = {"survey": 2, "pool": 3, "candidates": 3, "systems": 10, "least": 300, "most": 500, "steps": 9, "hidden": 4}
    stages = []
    one = training.train_constants(ConstantsTraining(tmp_path / "one", **few), lambda *told: stages.append(told))
    assert [stage for stage, done, total in stages if done == total] == ["survey", "table", "fit"]
    net = ConstantsNetwork.load(tmp_path / "one" / network.FILE)
    assert len(net.candidates) == 3
    assert json.loads((tmp_path / "one" / network.CARD).read_text()) == one
    whole = json.loads((tmp_path / "one" / "table.json").read_text())
    half = {name: row for name, row in whole["rows"].items() if name != "system 7"}
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "table.json").write_text(json.dumps(whole | {"rows": half}))
    two = training.train_constants(ConstantsTraining(tmp_path / "two", **few))
    assert two["sha256"] == one["sha256"]


def test_costs_are_over_the_first_candidate_s_and_a_failure_costs_more(monkeypatch):
    system = MatrixSystem.of(gallery.matrix("lognormal-3d", 1_000))
    b = system.project(np.random.default_rng(0).standard_normal(system.unknowns))
    monkeypatch.setattr(training, "EXTRA", 0)
    monkeypatch.setattr(training, "SLOWER", 0.5)  # so that all but the first fail
    found = costs_of(system, b, [DEFAULTS, DEFAULTS], dense=50)
    assert found[0] == 0.0
    assert math.log(0.5) < found[1] - math.log(training.FAILED) < 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"systems": 5}, "^systems must be at least 10, got 5"),
        ({"least": 9, "most": 8}, "^least must be at most most"),
        ({"pool": 0}, "^pool must be"),
        ({"noise": -1.0}, "^noise must be"),
    ],
)
def test_settings_that_are_refused_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        ConstantsTraining(**values)
