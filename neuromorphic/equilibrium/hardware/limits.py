"""Networks on a device, with bounded, rounded and noisy weights and rates that are read at a fixed time.

The gradient is measured on the device and applied to weights kept in full precision elsewhere, as in training with the
device in the loop. `hardware_costs` measures the cost of each limit as the angle to the exact gradient of the network
in full precision.
"""

from __future__ import annotations

import copy
import math
import statistics
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.estimators.comparison import compare_pair
from relaxon.neuromorphic.equilibrium.estimators.exact import Implicit
from relaxon.neuromorphic.equilibrium.estimators.gradients import gradient
from relaxon.neuromorphic.equilibrium.estimators.nudged import Estimator
from relaxon.neuromorphic.equilibrium.estimators.result import Gradient, Verdict
from relaxon.neuromorphic.equilibrium.networks.network import Network
from relaxon.neuromorphic.equilibrium.networks.readout_network import angle_of
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.relaxation.readout import Readout, check_range, in_levels
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import FixedStep


@dataclass(frozen=True, slots=True)
class Hardware:
    """The limits of a device; None or 0 means no limit.

    The weights are the matrices and kernels of a network, with both directions of tied ones in the same cells; biases
    are not limited. Weights are clipped to `±weight_bound` and rounded to `2^weight_bits − 1` levels. Gaussian noise of
    standard deviation `weight_noise` is then added, which is drawn each time the device is programmed and stays the
    same in the phases that follow. Rates are read by `Readout(rate_bound, rate_bits, rate_noise)`. `state_noise` is
    added to every state at every step. Phases are read after `free_steps` and `nudged_steps` steps, converged or not.
    """

    weight_bound: float | None = None
    weight_bits: int | None = None
    weight_noise: float = 0.0
    rate_bound: float | None = None
    rate_bits: int | None = None
    rate_noise: float = 0.0
    state_noise: float = 0.0
    free_steps: int | None = None
    nudged_steps: int | None = None

    def __post_init__(self) -> None:
        check_range("weight_bound", self.weight_bound, "weight_bits", self.weight_bits)
        check_range("rate_bound", self.rate_bound, "rate_bits", self.rate_bits)
        for name in ("weight_noise", "rate_noise", "state_noise"):
            validation.non_negative_float(name, getattr(self, name))
        for name in ("free_steps", "nudged_steps"):
            if getattr(self, name) is not None:
                validation.positive_int(name, getattr(self, name))

    @property
    def noisy(self) -> bool:
        """Whether any limit involves noise."""
        return self.weight_noise > 0 or self.rate_noise > 0 or self.state_noise > 0

    @property
    def readout(self) -> Readout | None:
        """The readout of the rates; None where it is exact."""
        if self.rate_bound is None and not self.rate_noise:
            return None
        return Readout(self.rate_bound, self.rate_bits, self.rate_noise)

    def phases(self, phases: Phases) -> Phases:
        """Return phases that end at the device's readout times, with its noise in addition to their own."""
        free, nudged = phases.free, phases.nudge
        if self.free_steps is not None:
            free = FixedStep(self.free_steps, early_stop=False)
        if self.nudged_steps is not None:
            nudged = FixedStep(self.nudged_steps, early_stop=False)
        return Phases(free, nudged, math.hypot(phases.noise, self.state_noise), phases.average)


def program(network: Network, hardware: Hardware, generator: torch.Generator | None = None) -> Network:
    """Return a copy of a network with the weights as the device stores them.

    ValueError where `hardware` has `weight_noise` and no CPU `generator` is given to draw it from.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import Hardware, LayeredNetwork, program
    >>> held = program(LayeredNetwork((4, 8, 3)), Hardware(weight_bound=0.5, weight_bits=2))
    >>> sorted(set(held.weights[0].flatten().tolist()))
    [-0.5, 0.0, 0.5]
    """
    if hardware.weight_noise and generator is None:
        raise ValueError("generator must be given where hardware has weight_noise, got None")
    held = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in held.parameters():
            if parameter.ndim < 2:
                continue
            value = in_levels(parameter, hardware.weight_bound, hardware.weight_bits)
            if hardware.weight_noise:
                noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                value = value + hardware.weight_noise * noise.to(value.device)
            parameter.copy_(value)
    return held


def hardware_gradient(
    network: Network,
    x: Tensor,
    target: Tensor,
    estimator: Estimator,
    hardware: Hardware,
    phases: Phases | None = None,
    generator: torch.Generator | None = None,
) -> Gradient:
    """Return the gradient that an estimator measures on the device; arguments and errors as for `gradient`.

    The verdict is `NOISY` where rates were rounded or noise was drawn, unless there is a worse one.
    """
    held = program(network, hardware, generator)
    found = gradient(
        held, x, target, estimator, hardware.phases(phases or Phases()), generator, readout=hardware.readout
    )
    if found.verdict is Verdict.OK and hardware.weight_noise:
        return replace(found, verdict=Verdict.NOISY, message="the weights carry noise")
    return found


@dataclass(frozen=True, slots=True)
class HardwareCost:
    """The cost of a limit: the measured gradient compared with the exact one of the network in full precision."""

    limit: str
    cosine: float
    """Mean cosine over the draws; NaN where a gradient is not finite."""
    angle: float
    """Angle in degrees that belongs to the mean cosine."""
    relative_error: float
    """‖g − g_exact‖ / ‖g_exact‖, mean over the draws."""
    verdict: Verdict
    """The verdict of the last draw."""
    draws: int


@dataclass(frozen=True, slots=True)
class HardwareReport:
    """The result of `hardware_costs`: rows without limits, with each limit alone, and with all limits."""

    estimator: str
    rows: tuple[HardwareCost, ...]

    def table(self) -> str:
        """Return a plain-text table with a line for each limit."""
        width = max(len(row.limit) for row in self.rows)
        lines = [f"{'limit':<{width}}  {'cosine':>8}  {'angle':>6}  {'error':>8}  {'draws':>5}  verdict"]
        for row in self.rows:
            lines.append(
                f"{row.limit:<{width}}  {row.cosine:8.5f}  {row.angle:5.1f}°  {row.relative_error:8.1e}  "
                f"{row.draws:5d}  {row.verdict.value}"
            )
        return "\n".join(lines)


def hardware_costs(
    network: Network,
    batch: tuple[Tensor, Tensor],
    estimator: Estimator,
    hardware: Hardware,
    *,
    phases: Phases | None = None,
    draws: int = 5,
    seed: int = 0,
) -> HardwareReport:
    """Measure the cost of each of a device's limits in gradient angle, alone and all together.

    Bits are measured together with their bound. Rows with noise are means over `draws` seeds, starting from `seed`. The
    reference is `Implicit()` on the network in full precision.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import Cauchy, Hardware, LayeredNetwork, hardware_costs
    >>> network = LayeredNetwork((4, 8, 3), dtype=torch.float64)
    >>> x = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    >>> device = Hardware(weight_bound=2.0, weight_bits=8, rate_bound=1.0, rate_bits=12, free_steps=40)
    >>> report = hardware_costs(network, (x, torch.tensor([0, 1, 2, 0, 1])), Cauchy(2, 0.5), device)
    >>> [row.limit for row in report.rows]
    ['none', 'weights within ±2', 'weights of 8 bits', 'rates within ±1', 'rates of 12 bits', 'free phase of 40 steps', 'all']
    >>> all(row.cosine > 0.99 for row in report.rows)
    True
    """  # noqa: E501  a line of output
    validation.positive_int("draws", draws)
    x, target = batch
    phases = phases or Phases()
    exact = gradient(network, x, target, Implicit(), Phases(phases.free, phases.nudged))
    rows = []
    for name, limits in [("none", Hardware()), *_separate_limits(hardware), ("all", hardware)]:
        count = draws if limits.noisy or phases.noise else 1
        found = [
            hardware_gradient(network, x, target, estimator, limits, phases, torch.Generator().manual_seed(seed + draw))
            for draw in range(count)
        ]
        pairs = [compare_pair(one, exact) for one in found]
        cosine = statistics.fmean(cosine for cosine, _ in pairs)
        error = statistics.fmean(error for _, error in pairs)
        rows.append(HardwareCost(name, cosine, angle_of(cosine), error, found[-1].verdict, count))
    return HardwareReport(estimator.label, tuple(rows))


def _separate_limits(hardware: Hardware) -> list[tuple[str, Hardware]]:
    """Return each limit of a device alone, with its description, in the order of the fields."""
    words = {
        "weight_bound": "weights within ±{:g}",
        "weight_bits": "weights of {} bits",
        "weight_noise": "noise {:g} on weights",
        "rate_bound": "rates within ±{:g}",
        "rate_bits": "rates of {} bits",
        "rate_noise": "noise {:g} on read rates",
        "state_noise": "noise {:g} on states",
        "free_steps": "free phase of {} steps",
        "nudged_steps": "nudged phase of {} steps",
    }
    needed = {"weight_bits": "weight_bound", "rate_bits": "rate_bound"}
    found = []
    for field in fields(Hardware):
        value = getattr(hardware, field.name)
        if not value:
            continue
        limits = {field.name: value}
        if field.name in needed:
            limits[needed[field.name]] = getattr(hardware, needed[field.name])
        found.append((words[field.name].format(value), Hardware(**limits)))
    return found
