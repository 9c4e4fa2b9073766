"""A density's fit that was cut off, wherever, goes on to the bits of one that never was; other fits are refused."""

import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.checkpoints import Checkpoints  # noqa: E402
from relaxon.neuromorphic.energy import EnergyDensity, planar  # noqa: E402
from relaxon.neuromorphic.energy.estimators import density  # noqa: E402
from relaxon.neuromorphic.torch_checkpoints import FILE  # noqa: E402

pytestmark = pytest.mark.usefixtures("brief_search")
X = planar("two-moons").sample(300, seed=1)
FAST = {"hidden_sizes": (8,), "noise": "gaussian", "steps": 130, "batch_size": 64, "noise_batch_size": 128}
FAST |= {"partition_draws": 1000, "random_state": 0}


class CutError(Exception):
    """As a kill would end a fit."""


def cut_at(step):
    def watch(progress):
        if progress.step == step:
            raise CutError

    return watch


def made(**options):
    return EnergyDensity(**(FAST | options))


def outcome(model):
    weights = [tensor.numpy().tobytes() for tensor in model.energy_.state_dict().values()]
    return weights, model.log_partition_, model.verdict_, model.validation_.tolist(), model.training_.steps


@pytest.fixture
def whole(brief_search):
    return outcome(made().fit(X))


@pytest.mark.parametrize("cuts", [(1,), (50,), (51, 51, 100), (130,)])
def test_a_fit_that_was_cut_off_ends_with_the_bits_of_one_that_never_was(cuts, whole, tmp_path):
    checkpoints = Checkpoints(tmp_path, 0.0)
    for cut in cuts:
        with pytest.raises(CutError):
            made().fit(X, watcher=cut_at(cut), checkpoints=checkpoints)
    seen = []
    model = made().fit(X, watcher=lambda progress: seen.append(progress.step), checkpoints=checkpoints)
    assert seen == list(range(cuts[-1], 131))  # nothing that a checkpoint holds is done again
    assert outcome(model) == whole


def test_a_fit_that_the_rows_held_out_have_ended_is_not_trained_on(tmp_path, monkeypatch):
    options = {"patience": 1, "learning_rate": 1.0, "steps": 1000}
    stopped = made(**options).fit(X)
    assert stopped.training_.steps < 1000
    checkpoints = Checkpoints(tmp_path, 1000.0)

    def cut(*arguments):
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(density, "log_partition", cut)
        with pytest.raises(CutError):
            made(**options).fit(X, checkpoints=checkpoints)
    seen = []
    model = made(**options).fit(X, watcher=seen.append, checkpoints=checkpoints)
    assert seen == []
    assert outcome(model) == outcome(stopped)


def test_a_seed_that_was_drawn_is_that_of_the_fit_that_is_gone_on_with(tmp_path):
    checkpoints = Checkpoints(tmp_path, 0.0)
    with pytest.raises(CutError):
        made(random_state=None).fit(X, watcher=cut_at(60), checkpoints=checkpoints)
    seen = []
    made(random_state=None).fit(X, watcher=lambda progress: seen.append(progress.step), checkpoints=checkpoints)
    assert seen[0] == 60


@pytest.mark.parametrize(
    ("change", "rows", "named"),
    [({"patience": 3}, X, "fit"), ({"steps": 140}, X, "settings"), ({}, X[::-1] + 1.0, "digest")],
)
def test_another_fit_or_other_rows_are_refused(change, rows, named, tmp_path):
    checkpoints = Checkpoints(tmp_path, 0.0)
    with pytest.raises(CutError):
        made().fit(X, watcher=cut_at(60), checkpoints=checkpoints)
    with pytest.raises(ValueError, match=named):
        made(**change).fit(rows, checkpoints=checkpoints)
    assert (tmp_path / FILE).exists()
