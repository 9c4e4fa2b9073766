"""Comp-sum losses for any torch classifier, and their smooth adversarial form.

With logits `h` and `u = Σ_{y'≠y} e^{h_y' − h_y}`, so that `1/(1 + u)` is the softmax probability of the true class `y`,

    Φ_τ(u) = ((1 + u)^{1−τ} − 1) / (1 − τ),    Φ_1(u) = log(1 + u).

τ = 1 is cross-entropy, τ = 0 the sum-exponential loss `u`, 1 < τ < 2 the generalised cross-entropy of Zhang and Sabuncu
with `q = τ − 1`, τ = 2 the mean absolute error up to its factor. Source: Mao, Mohri, Zhong 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from relaxon.core import validation

Reduction = Literal["mean", "sum", "none"]
CALIBRATED = 2.0
"""τ from which the minimiser puts all probability on the most likely class, so that logits give no probabilities."""


def select_log_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Return `log softmax` of the class that the one-hot `target` marks; logits `(…, classes)`, real or complex."""
    if not logits.is_complex():
        # A product with the target would be NaN (0 · ∞) for a class with logit −∞.
        return torch.where(target > 0, logits, 0.0).sum(-1) - torch.logsumexp(logits, -1)
    largest = logits.real.amax(-1, keepdim=True)
    shifted = logits - largest
    return (shifted * target).sum(-1) - torch.log(torch.exp(shifted).sum(-1))


def comp_sum(logits: Tensor, target: Tensor, tau: float) -> Tensor:
    """Return `Φ_τ` for each sample `(…)` of logits `(…, classes)`, real or complex, and one-hot `target`.

    It is computed as `(e^{(1−τ) L} − 1)/(1 − τ)` with `L = −log softmax`, so that small losses stay accurate.
    """
    surprise = -select_log_softmax(logits, target)
    if tau == 1.0:
        return surprise
    power = (1.0 - tau) * surprise
    return (torch.exp(power) - 1.0 if power.is_complex() else torch.expm1(power)) / (1.0 - tau)


def comp_sum_weight(logits: Tensor, target: Tensor, tau: float) -> Tensor:
    """Return `p_y^{τ−1}`, `(…, 1)`; the gradient of `Φ_τ` by the logits is this times `softmax − target`."""
    return torch.exp((tau - 1.0) * select_log_softmax(logits, target))[..., None]


def check_tau(tau: object, below: float = math.inf) -> float:
    """Return τ as a float; raise `TypeError` or `ValueError` unless it is finite, above 0 and below `below`."""
    number = validation.positive_float("tau", tau)
    if number >= below:
        raise ValueError(f"tau must be less than {below:g}, got {tau!r}: no probabilities follow from such logits")
    return number


def calibrated_scale(tau: float) -> float:
    """Return `2 − τ`, the factor of logits trained by `Φ_τ`, τ < 2, for which the softmax gives probabilities.

    The expected loss `Σ p_y Φ_τ` is minimal where the softmax is proportional to `p^{1/(2−τ)}`.
    """
    return CALIBRATED - check_tau(tau, CALIBRATED)


class CompSumLoss(nn.Module):
    """The comp-sum loss `Φ_τ` of logits.

    Parameters
    ----------
    tau : τ above 0; 1 is cross-entropy. Near 2 the gradient of badly misclassified rows almost vanishes.
    reduction : "mean", "sum" or "none".

    Source: Mao, Mohri, Zhong, "Cross-entropy loss functions: theoretical analysis and applications", ICML 2023.

    >>> import torch
    >>> from relaxon.neuromorphic.losses import CompSumLoss
    >>> logits, target = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    >>> torch.allclose(CompSumLoss(1.0)(logits, target), torch.nn.functional.cross_entropy(logits, target))
    True
    """

    def __init__(self, tau: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.tau = check_tau(tau)
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of `logits (batch, classes)` for class indices `target (batch,)`; scalar unless "none"."""
        losses = comp_sum(logits, one_hot(logits, target), self.tau)
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        return f"tau={self.tau:g}, reduction={self.reduction!r}"


class SmoothAdversarialCompSumLoss(nn.Module):
    """The smooth adversarial comp-sum loss: `Φ_τ` at scale ρ plus ν times the largest change of the margins.

        Φ_τ(Σ_{y'≠y} e^{−(h_y − h_y')/ρ}) + ν max_{‖x'−x‖_∞ ≤ γ} ‖Δ(x') − Δ(x)‖₂,   Δ(x) = (h_y − h_y')_{y'≠y}

    With `ν ≥ √(K−1)/ρ` for K classes it is an upper bound of the adversarial comp-sum loss of the ρ-margin, as `Φ_τ` is
    1-Lipschitz and the ρ-margin loss `min(1, max(0, 1 − t/ρ))` is 1/ρ-Lipschitz. The maximum is approximated from below
    by projected ascent along the sign of the gradient.

    Parameters
    ----------
    tau, rho : τ and the scale ρ of the margin, above 0.
    radius : γ above 0, in the units of the inputs.
    nu : weight ν; None for `√(K−1)/ρ`.
    steps, step : number of ascent steps, each of length `step · radius`.

    Source: Mao, Mohri, Zhong 2023, section on adversarial robustness; the bound is derived above.
    """

    def __init__(
        self,
        tau: float = 1.0,
        *,
        rho: float = 1.0,
        radius: float = 0.1,
        nu: float | None = None,
        steps: int = 5,
        step: float = 0.5,
    ) -> None:
        super().__init__()
        self.tau, self.rho = check_tau(tau), validation.positive_float("rho", rho)
        self.radius, self.step = validation.positive_float("radius", radius), validation.positive_float("step", step)
        self.nu = None if nu is None else validation.non_negative_float("nu", nu)
        self.steps = validation.positive_int("steps", steps)

    def forward(
        self, model: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the mean loss of `model` (inputs to logits) at `x (batch, …)` and class indices `target (batch,)`.

        `generator` draws the starting points of the ascent; the same state gives the same bits.
        """
        logits = model(x)
        target_hot = one_hot(logits, target)
        loss = comp_sum(logits / self.rho, target_hot, self.tau)
        nu = math.sqrt(logits.shape[-1] - 1) / self.rho if self.nu is None else self.nu
        moved = self.perturb(model, x, target, generator)
        return (loss + nu * margin_change(model(moved), logits, target_hot)).mean()

    def perturb(
        self, model: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return inputs within `radius` of `x` that change the margins most; no gradient flows through them."""
        with torch.no_grad():
            logits = model(x)
            target_hot = one_hot(logits, target)
            # At x itself the change is 0 and has no gradient direction.
            start = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device)
            moved = x + self.radius * (2.0 * start - 1.0)
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_()
            with torch.enable_grad():
                change = margin_change(model(moved), logits, target_hot).sum()
                (slope,) = torch.autograd.grad(change, moved)
            with torch.no_grad():
                offset = moved - x + self.step * self.radius * slope.sign()
                moved = x + offset.clamp(-self.radius, self.radius)
        return moved.detach()


def margin_change(logits: Tensor, before: Tensor, target: Tensor) -> Tensor:
    """Return `‖Δ(x') − Δ(x)‖₂` for each sample, from logits `(batch, classes)` and the one-hot target."""
    change = logits - before
    margins = (change * target).sum(-1, keepdim=True) - change
    # The true class's own entry is 0; the square root has no derivative at 0.
    return margins.square().sum(-1).clamp(min=torch.finfo(margins.dtype).tiny).sqrt()


def one_hot(logits: Tensor, target: Tensor) -> Tensor:
    """Return the one-hot rows of the target; raise `TypeError` or `ValueError` if `logits` and `target` do not fit."""
    for name, value in (("logits", logits), ("target", target)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits must be (batch, classes) of floats with at least two classes, "
            f"got {logits.dtype} {tuple(logits.shape)}"
        )
    if target.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        raise TypeError(f"target must be class indices of integers, got {target.dtype}")
    if target.shape != logits.shape[:1] or not len(target):
        raise ValueError(f"target must be ({len(logits)},) with at least one sample, got {tuple(target.shape)}")
    low, high = int(target.min()), int(target.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"target must be between 0 and {logits.shape[1] - 1}, got {low if low < 0 else high}")
    if not bool((logits < math.inf).all()):
        raise ValueError("logits must not hold NaN or +inf")
    return nn.functional.one_hot(target.long(), logits.shape[1]).to(logits.dtype)
