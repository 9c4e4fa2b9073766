"""Proximal matching finds the mode's operator; runs are reproducible, can be cut off and stored."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from relaxon.neuromorphic.proximal import (  # noqa: E402
    MatchingOutcome,
    MatchingSettings,
    NetworkSettings,
    ProximalModel,
    list_pretrained,
    load_proximal,
    pretrained,
    train_proximal,
)
from relaxon.neuromorphic.proximal.datasets import (  # noqa: E402
    draw_blocks,
    draw_laplace,
    list_laplace_quantiles,
    load_digit_images,
    read_samples,
)
from relaxon.neuromorphic.proximal.evaluation import soft_threshold_error  # noqa: E402

NETWORK = NetworkSettings((1,), hidden=(8, 8))
SHORT = MatchingSettings(1.0, start_steps=12, gammas=(1.0, 0.5), stage_steps=6, batch=32, record_every=1)
DATA = draw_laplace(100, seed=1)


def weights(model):
    return {name: tensor.numpy() for name, tensor in model.potential.state_dict().items()}


def assert_same_bits(one, other):
    for name, array in weights(one).items():
        np.testing.assert_array_equal(array, weights(other)[name], err_msg=name)


def test_matching_comes_nearer_to_soft_thresholding_than_the_absolute_error_does():
    quantiles = list_laplace_quantiles(256)
    start = MatchingSettings(
        1.0, start_steps=150, gammas=(), rate=2e-2, batch=64, pairing="posterior", average=0.95, record_every=50
    )
    network = NetworkSettings((1,), hidden=(16,))
    median = train_proximal(quantiles, network, start)
    matched = train_proximal(quantiles, network, replace(start, gammas=(0.5, 0.2), stage_steps=150, matching_rate=2e-2))
    assert soft_threshold_error(median) > 0.5
    assert soft_threshold_error(matched) < 0.3


def test_posterior_pairs_have_the_expectation_of_drawn_ones():
    from relaxon.neuromorphic.proximal.training.matching import _MatchingRun

    data = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    network = NetworkSettings((2,), hidden=(5,))
    drawn = _MatchingRun(data, network, replace(SHORT, noise=0.8))
    paired = _MatchingRun(data, network, replace(SHORT, noise=0.8, pairing="posterior"))
    clean = data.repeat(40_000, 1)
    noisy = clean + 0.8 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = drawn.potential.proximal(noisy)
    assert float(paired._compare(found, clean, noisy, None)) == pytest.approx(
        float(drawn._compare(found, clean, noisy, None)), rel=5e-3
    )
    # Of one y, the samples that it may have come from have the weights of the posterior.
    y, f = noisy[:1], found[:1]
    odds = torch.softmax(-((y - data) ** 2).sum(1) / (2 * 0.8**2), 0)
    drawn_losses = torch.stack([drawn._compare(f, one[None], y, 0.6) for one in data])
    assert float(paired._compare(f, clean[:1], y, 0.6)) == pytest.approx(float((odds * drawn_losses).sum()), rel=1e-4)


@pytest.mark.parametrize("average", [None, 0.9])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(average):
    settings = replace(SHORT, average=average)
    once = train_proximal(DATA, NETWORK, settings)
    state = torch.random.get_rng_state()
    assert_same_bits(once, train_proximal(DATA, NETWORK, settings))
    assert bool((torch.random.get_rng_state() == state).all())
    other = train_proximal(DATA, NETWORK, replace(settings, seed=1))
    assert not np.array_equal(weights(once)["last.weight"], weights(other)["last.weight"])


@pytest.mark.parametrize("stop", [5, 15])
def test_a_run_that_was_cut_off_ends_with_the_bits_of_one_that_was_not(tmp_path, stop):
    whole = train_proximal(DATA, NETWORK, SHORT)
    settings = replace(SHORT, out=tmp_path)
    cut = train_proximal(DATA, NETWORK, settings, watcher=lambda progress: progress.step == stop)
    assert (cut.training.ended, cut.training.steps) == (MatchingOutcome.CANCELLED, stop)
    resumed = train_proximal(DATA, NETWORK, settings)
    assert resumed.training.ended is MatchingOutcome.FINISHED
    assert_same_bits(whole, resumed)
    assert [record.loss for record in resumed.training.records] == [record.loss for record in whole.training.records]
    for other in (
        lambda: train_proximal(DATA + 1, NETWORK, settings),
        lambda: train_proximal(DATA, replace(NETWORK, beta=5.0), settings),
        lambda: train_proximal(DATA, NETWORK, replace(settings, noise=2.0)),
    ):
        with pytest.raises(ValueError, match="out must be empty or hold a run of the same"):
            other()


def test_stages_follow_each_other_and_weights_stay_positive():
    seen = []
    model = train_proximal(DATA, NETWORK, SHORT, watcher=seen.append)
    assert [progress.record.stage for progress in seen] == [0] * 12 + [1] * 6 + [2] * 6
    assert all(progress.steps == 24 for progress in seen)
    assert all(bool((weight >= 0).all()) for weight in model.potential.positive_weights())


def test_a_model_is_stored_and_loaded_bit_for_bit(tmp_path):
    model = train_proximal(DATA, NETWORK, SHORT)
    model.save(tmp_path, {"data": "laplace"})
    loaded = ProximalModel.load(tmp_path)
    assert_same_bits(model, loaded)
    y = np.linspace(-2, 2, 9)[:, None]
    np.testing.assert_array_equal(model.denoise(y), loaded.denoise(y))
    assert loaded.training == model.training
    assert loaded.settings == model.settings
    assert (loaded.noise, loaded.card) == (1.0, {"data": "laplace"})
    assert json.loads((tmp_path / "model.json").read_text())["network"]["hidden"] == [8, 8]


def test_damaged_models_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder must contain model.safetensors"):
        load_proximal(tmp_path)
    train_proximal(DATA, NETWORK, SHORT).save(tmp_path)
    path = tmp_path / "model.safetensors"
    description = {"description": (tmp_path / "model.json").read_text()}
    tensors = load_file(path)
    for name, value in (("last.weight", -1.0), ("reads.0.bias", float("nan"))):
        changed = {key: tensor.clone() for key, tensor in tensors.items()}
        changed[name].view(-1)[0] = value
        save_file(changed, path, description)
        with pytest.raises(ValueError, match="contains no proximal model"):
            load_proximal(tmp_path)
    save_file({key: tensor for key, tensor in tensors.items() if key != "last.weight"}, path, description)
    with pytest.raises(ValueError, match="contains no proximal model"):
        load_proximal(tmp_path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="contains no proximal model"):
        load_proximal(tmp_path)


def test_training_that_goes_astray_says_so():
    settings = replace(SHORT, noise=1e-3, gammas=(0.01,), stage_steps=60, matching_rate=0.5, average=None)
    model = train_proximal(DATA, NETWORK, settings)
    assert model.training.ended is MatchingOutcome.DIVERGED
    assert "larger γ" in model.training.reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": 0.0}, "noise must be greater than 0"),
        ({"gammas": (0.5, 0.5)}, "gammas must decrease"),
        ({"gammas": (-1.0,)}, "gammas must be greater than 0"),
        ({"gammas": 0.5}, "gammas must be numbers"),
        ({"start_steps": 0}, "start_steps must be at least 1"),
        ({"batch": 1.5}, "batch must be an integer"),
        ({"average": 1.0}, "average must be at least 0 and below 1"),
        ({"pairing": "both"}, "pairing must be 'drawn' or 'posterior'"),
        ({"device": "abacus"}, "device must be a torch device"),
        ({"seed": True}, "seed must be an integer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        MatchingSettings(**{"noise": 1.0, **options})


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"data must be at most 1e\+15 in size, .*, got 1e\+200"):
        train_proximal(np.full((3, 1), -1e200), NETWORK, SHORT)
    with pytest.raises(ValueError, match=r"data must have shape \(n, 1\) with n ≥ 1, got \(100,\)"):
        train_proximal(DATA[:, 0], NETWORK, SHORT)
    with pytest.raises(ValueError, match="data must be finite"):
        train_proximal(np.full((3, 1), np.nan), NETWORK, SHORT)
    with pytest.raises(TypeError, match="network must be NetworkSettings"):
        train_proximal(DATA, None, SHORT)
    with pytest.raises(ValueError, match="pairing must be 'drawn' where"):
        train_proximal(np.zeros((2**20, 1)), NETWORK, replace(SHORT, pairing="posterior"))


def test_samples_are_read_from_files_and_what_holds_none_is_refused(tmp_path):
    array = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array)
    (tmp_path / "a.csv").write_text("u,v\n0,1\n2,3\n4,5\n")
    for name in ("a.npy", "a.npz", "a.csv"):
        np.testing.assert_array_equal(read_samples(tmp_path / name), array)
    np.savez(tmp_path / "two.npz", x=array, y=array)
    (tmp_path / "words.csv").write_text("u,v\n0,1\nno,3\n")
    (tmp_path / "a.txt").write_text("1")
    for name, said in (("two.npz", "one array"), ("words.csv", "numbers only"), ("a.txt", "ends in")):
        with pytest.raises(ValueError, match=said):
            read_samples(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="data must be a file that exists"):
        read_samples(tmp_path / "none.npy")


def test_the_data_sets_are_what_they_say():
    images, held = load_digit_images(16)
    assert images.shape == (1500, 16, 16)
    assert held.shape == (297, 16, 16)
    assert 0 <= images.min() < images.max() <= 1
    blocks = draw_blocks(5, 20, seed=2)
    assert set(np.unique(blocks)) == {0.0, 1.0}
    assert blocks[:, 0].sum() == blocks[:, :, -1].sum() == 0
    assert list_laplace_quantiles(1001)[:, 0].std() == pytest.approx(np.sqrt(2), rel=0.02)


def test_shipped_models_are_complete_and_keep_their_promises():
    names = list_pretrained()
    assert set(names) == {"laplace-1d", "digits-16", "blocks"}
    for name in names:
        model = pretrained(name)
        assert model.card["command"].startswith("relaxon train proximal --data ")
        assert model.training.ended is MatchingOutcome.FINISHED
    assert soft_threshold_error(pretrained("laplace-1d")) <= 0.05
    with pytest.raises(ValueError, match="did you mean 'blocks'"):
        pretrained("block")
