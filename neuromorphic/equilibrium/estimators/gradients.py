"""The gradient of a batch by any estimator for any network, and the variance of its samples' gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium.estimators.exact import Unrolled
from relaxon.neuromorphic.equilibrium.estimators.nudged import Estimator, FreePhase, read_exactly
from relaxon.neuromorphic.equilibrium.estimators.result import AdjointReading, Gradient, Verdict, judge
from relaxon.neuromorphic.equilibrium.networks.network import Network, all_finite
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.relaxation.readout import Readout
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Relaxation, StateNoise

GROUPS = 4
"""Parts of a batch whose gradients are compared: the estimate of the variance has a relative error of about √(2/3) for
one parameter, and far less when summed over many."""


def gradient(
    network: Network,
    x: Tensor,
    target: Tensor,
    estimator: Estimator,
    phases: Phases | None = None,
    generator: torch.Generator | None = None,
    *,
    readout: Readout | None = None,
) -> Gradient:
    """Return the gradient of a batch's mean loss with respect to the network's parameters.

    Parameters
    ----------
    x : `(batch, …)` in the network's dtype, finite.
    target : class indices `(batch,)` for a classifier, otherwise what the network's loss accepts.
    estimator : for example `Cauchy(6, 0.5)` or `Implicit()`.
    phases : relaxers and noise; at most 500 plain steps by default.
    generator : a CPU generator for the noise; required where there is noise.
    readout : the readout of free and nudged rates by a device; exact where None.

    Returns
    -------
    Gradient : with a verdict, which reports phases that did not converge, a contour beyond the radius of analyticity
        and states that diverged.

    Raises
    ------
    TypeError, ValueError : naming the argument, before the relaxation; ValueError for complex nudges of a network that
        is not holomorphic.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import Cauchy, Implicit, LayeredNetwork, gradient
    >>> network = LayeredNetwork((4, 8, 3), dtype=torch.float64)
    >>> x = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    >>> y = torch.tensor([0, 1, 2, 0, 1])
    >>> measured, exact = (gradient(network, x, y, e) for e in (Cauchy(12, 0.5), Implicit()))
    >>> measured.ok, bool((measured.gradients["weights.0"] - exact.gradients["weights.0"]).norm() < 1e-8)
    (True, True)
    """
    phases = phases or Phases()
    estimator.refuse(network)
    x, encoded = network.validate(x, target)
    if phases.noise and generator is None:
        raise ValueError("generator must be given where the phases have noise, got None")
    if readout is not None and readout.noise and generator is None:
        raise ValueError("generator must be given where the readout has noise, got None")
    read = read_exactly if readout is None else partial(readout.read, generator=generator)
    noise = StateNoise(phases.noise, generator, phases.average) if phases.noise and generator is not None else None
    with torch.no_grad():
        free = free_phase(network, x, encoded, phases, noise, estimator.scale, read)
    if isinstance(estimator, Unrolled):
        with torch.enable_grad():
            found, through = estimator.unrolled_gradients(network, x, encoded)
        with torch.no_grad():
            loss = network.loss(free.rates, encoded).mean()
        reading = AdjointReading(free.rates, through, None, 3 * estimator.steps * len(x))
    else:
        with torch.no_grad():
            reading = estimator.read(free)
            loss, found = network.gradients(free.rates, x, free.drive, encoded, reading.adjoint)
    finite = all(all_finite(g) for g in found.values())
    judgement, message = judge(free.relaxation, reading.nudged, reading.truncation, reading.points, finite)
    if readout is not None and judgement in (Verdict.OK, Verdict.NOT_ANALYTIC):
        # The check of the contour would detect the rounding of the readings.
        judgement, message = Verdict.NOISY, "the rates were read with rounding or noise"
    with torch.no_grad():
        scores = network.scores(free.rates)
    return Gradient(
        gradients=found,
        verdict=judgement,
        message=message,
        loss=float(loss),
        scores=scores,
        free=free.relaxation,
        nudged=reading.nudged,
        truncation=reading.truncation,
        asymmetry=reading.asymmetry,
        evaluations=free.relaxation.steps * len(x) + reading.evaluations,
    )


def free_phase(
    network: Network,
    x: Tensor,
    encoded: Tensor,
    phases: Phases,
    noise: StateNoise | None = None,
    scale: float = 1.0,
    read: Callable[[Tensor], Tensor] = read_exactly,
) -> FreePhase:
    """Relax a validated batch without a nudge."""
    drive = network.drive(x)
    relaxed = phases.free.relax(network.free_field(drive), network.start(drive), scale=scale, noise=noise)
    rates = read(network.read(relaxed))
    return FreePhase(network, drive, encoded, phases, relaxed, rates, noise, read)


@torch.no_grad()
def predict(network: Network, x: Tensor, phases: Phases | None = None) -> tuple[Tensor, Relaxation]:
    """Return the outputs `(batch, outputs)` at the free equilibrium, and how the relaxation went."""
    x = network.validate_input(x)
    drive = network.drive(x)
    relaxer = (phases or Phases()).free
    relaxed = relaxer.relax(network.free_field(drive), network.start(drive))
    return network.scores(network.read(relaxed)), relaxed


def gradient_with_spread(
    network: Network,
    x: Tensor,
    target: Tensor,
    estimator: Estimator,
    phases: Phases,
    generator: torch.Generator | None = None,
) -> tuple[Gradient, float | None]:
    """Return a batch's gradient, measured in `GROUPS` parts, and an estimate of `Σ Var(g_i)` over its samples.

    For parts of `s_k` samples with mean gradients `g_k`, the estimate is `Σ s_k ‖g_k − ḡ‖² / (parts − 1)`, which is
    unbiased. It is None for a batch of one sample and where a gradient is not finite.
    """
    parts = torch.arange(len(x)).chunk(min(GROUPS, len(x)))
    found = [gradient(network, x[rows], target[rows], estimator, phases, generator) for rows in parts]
    pooled = pool_gradients(found, [len(rows) for rows in parts])
    if len(found) == 1 or pooled.verdict is Verdict.NON_FINITE:
        return pooled, None
    variance = 0.0
    for part, rows in zip(found, parts, strict=True):
        apart = sum(float((g - pooled.gradients[name]).square().sum()) for name, g in part.gradients.items())
        variance += len(rows) * apart
    return pooled, variance / (len(found) - 1)


def pool_gradients(found: list[Gradient], sizes: list[int]) -> Gradient:
    """Return the gradient of a batch from those of its parts: means, and the worst of everything else."""
    total = sum(sizes)
    shares = [size / total for size in sizes]
    names = found[0].gradients
    mean = {name: _weigh(shares, [one.gradients[name] for one in found]) for name in names}
    worst = max(found, key=lambda one: (one.verdict is Verdict.NON_FINITE, one.verdict is not Verdict.OK))
    slowest = max(found, key=lambda one: one.free.steps)
    nudged = [one.nudged for one in found if one.nudged is not None]
    return replace(
        worst,
        gradients=mean,
        loss=sum(s * g.loss for s, g in zip(shares, found, strict=True)),
        scores=torch.cat([one.scores for one in found]),
        free=slowest.free,
        nudged=max(nudged, key=lambda one: one.steps) if nudged else None,
        evaluations=sum(one.evaluations for one in found),
    )


def _weigh(shares: list[float], parts: list[Tensor]) -> Tensor:
    total = torch.zeros_like(parts[0])
    for share, part in zip(shares, parts, strict=True):
        total += share * part
    return total
