"""Optimisers for any torch module: diffGrad, AdAdaGrad and normalised gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from relaxon.core import validation
from relaxon.implicit.modules import call_with
from relaxon.neuromorphic.parameters import check_real

ADAPTIVE = ("adadagrad", "adadagrad-norm")
"""The optimisers that adapt the batch size to the variance of the gradients."""
NOISE = 1.0
"""Default η of the norm test: accepted error of a batch gradient relative to its norm."""
SMALLEST = 1e-30
"""Squared norm of a gradient below which its ratio to the variance is meaningless."""


class _Stepping(Optimizer):
    """Base class that evaluates a closure as torch's optimisers do and then calls the subclass's update."""

    def _update(self) -> None:
        raise NotImplementedError

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters by their gradients; return the loss of the closure, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss


class DiffGrad(_Stepping):
    """Adam's step times `ξ = σ(|g_{t−1} − g_t|)`, which is ½ for a constant gradient and near 1 for a changing one.

    Parameters
    ----------
    params : parameters or parameter groups, as for torch's optimisers.
    lr : learning rate, above 0.
    betas : decays of the averages of g and g², each at least 0 and below 1.
    eps : above 0, added to the root of the second average.
    weight_decay : at least 0, added to the gradient.

    `g_0 = 0`. The previous gradient is stored as a copy. The authors' first implementation stored the tensor itself,
    which the next backward pass overwrites if gradients are zeroed in place, so that ξ was always ½.
    Source: Dubey et al. 2020, "diffGrad: an optimization method for convolutional neural networks".

    >>> import torch
    >>> from relaxon.neuromorphic.optimizers import DiffGrad
    >>> x = torch.nn.Parameter(torch.tensor([3.0]))
    >>> optimizer = DiffGrad([x], lr=0.1)
    >>> for _ in range(200):
    ...     optimizer.zero_grad()
    ...     x.square().sum().backward()
    ...     optimizer.step()
    >>> bool(x.abs() < 0.05)
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        validation.positive_float("lr", lr)
        validation.positive_float("eps", eps)
        validation.non_negative_float("weight_decay", weight_decay)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"betas must be a pair of numbers, got {betas!r}")
        for index, beta in enumerate(betas):
            check_real(f"betas[{index}]", beta, least=0.0, below=1.0)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def _update(self) -> None:
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter, gradient in _iterate_gradients(group):
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)
                    for name in ("mean", "square", "previous"):
                        state[name] = torch.zeros_like(parameter)
                state["step"] += 1
                taken = int(state["step"])
                gradient = _add_decay(gradient, parameter, group["weight_decay"])
                state["mean"].lerp_(gradient, 1 - first)
                state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
                friction = torch.sigmoid((state["previous"] - gradient).abs())
                state["previous"].copy_(gradient)
                size = group["lr"] * math.sqrt(1 - second**taken) / (1 - first**taken)
                parameter.addcdiv_(state["mean"] * friction, state["square"].sqrt().add_(group["eps"]), value=-size)


class NormalizedGradientDescent(_Stepping):
    """Gradient descent by `lr · g/‖g‖`, with the norm over all parameters of all groups; no step for a zero gradient.

    Parameters
    ----------
    params : parameters or parameter groups.
    lr : length of a step, above 0.
    momentum : decay of the average of the directions, at least 0 and below 1.

    On a separable set the logistic loss has no minimum, and its gradient vanishes as the margin grows; steps of a fixed
    length keep increasing the margin. Gradient descent with a step size that tends to infinity is the batch perceptron
    there, see `perceptron_direction`. Source: Tyurin 2024, "From logistic regression to the perceptron algorithm".
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.0) -> None:
        validation.positive_float("lr", lr)
        check_real("momentum", momentum, least=0.0, below=1.0)
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def _update(self) -> None:
        found = [pair for group in self.param_groups for pair in _iterate_gradients(group)]
        if not found:
            return
        # In double precision, as squares in single precision can overflow; a NaN norm propagates to the parameters.
        norm = math.hypot(*(_measure_norm(gradient) for _, gradient in found))
        if norm == 0.0:
            return
        for group in self.param_groups:
            for parameter, gradient in _iterate_gradients(group):
                direction = gradient / norm
                if group["momentum"]:
                    state = self.state[parameter]
                    if not state:
                        state["direction"] = torch.zeros_like(parameter)
                    direction = state["direction"].mul_(group["momentum"]).add_(direction)
                parameter.sub_(direction, alpha=group["lr"])


def perceptron_direction(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Return the step of the batch perceptron, `1/n Σ y_i x_i [y_i x_iᵀw < 0]` (a tie counts ½), `(features,)`.

    It is the limit, for an infinite step size γ, of gradient descent on the logistic loss in `w = θ/γ`, for rows
    `x (n, features)` and labels `y (n,)` of −1 and 1: `−∇ℓ(θ) = 1/n Σ σ(−y_i x_iᵀθ) y_i x_i` with `θ = γ w`.
    """
    share = torch.heaviside(-y * (x @ w), torch.full((), 0.5, dtype=x.dtype, device=x.device))
    return ((share * y)[:, None] * x).mean(0)


class AdaptiveBatchAdaGrad(_Stepping):
    """AdaGrad with batches that grow until the error of their gradient is at most η times its norm (AdAdaGrad).

    The size of the next batch is `max(b, ⌈Σ Var(g_i) / (η² ‖ḡ‖²)⌉)`, with the variance over the samples of the current
    batch; it never decreases. `AdaptiveBatchSampler` draws batches of that size.

    Parameters
    ----------
    params : parameters or parameter groups.
    lr : learning rate, above 0.
    eta : η of the norm test, above 0; smaller values give larger batches.
    norm : use a single step size for all parameters, `lr / √(Σ_t ‖g_t‖²)` (AdAdaGradNorm), instead of one for each.
    batch_size, max_batch_size : size of the first batch and maximum size.
    eps : above 0, added to the root of the sum of squares.
    weight_decay : at least 0, added to the gradient.

    Attributes
    ----------
    batch_size : size of the next batch.

    Source: Lau, Liu, Kolar 2024, "AdAdaGrad: adaptive batch size schemes for adaptive gradient methods".

    >>> import torch
    >>> from relaxon.neuromorphic.optimizers import AdaptiveBatchAdaGrad, AdaptiveBatchSampler
    >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> model = torch.nn.Linear(3, 2)
    >>> optimizer = AdaptiveBatchAdaGrad(model.parameters(), lr=0.1, batch_size=16, max_batch_size=200)
    >>> for epoch in range(3):
    ...     for rows in AdaptiveBatchSampler(len(x), optimizer, seed=epoch):
    ...         loss = optimizer.measure(model, torch.nn.functional.cross_entropy, x[rows], y[rows])
    ...         optimizer.step()
    >>> 16 <= optimizer.batch_size <= 200
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        *,
        eta: float = NOISE,
        norm: bool = False,
        batch_size: int = 32,
        max_batch_size: int | None = None,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        for name, value in (("lr", lr), ("eta", eta), ("eps", eps)):
            validation.positive_float(name, value)
        validation.non_negative_float("weight_decay", weight_decay)
        if not isinstance(norm, bool):
            raise TypeError(f"norm must be True or False, got {norm!r}")
        validation.positive_int("batch_size", batch_size)
        if max_batch_size is not None and validation.positive_int("max_batch_size", max_batch_size) < batch_size:
            raise ValueError(f"max_batch_size must be at least batch_size {batch_size}, got {max_batch_size}")
        defaults = {"lr": lr, "eta": eta, "norm": norm, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"batch_size": batch_size, "max_batch_size": max_batch_size})

    @property
    def batch_size(self) -> int:
        """The size of the next batch."""
        return int(self.param_groups[0]["batch_size"])

    def adapt(self, variance: float, square: float) -> int:
        """Return the size of the next batch from `Σ Var(g_i)` (per sample) and `‖ḡ‖²` of this batch."""
        group, size = self.param_groups[0], self.batch_size
        if math.isfinite(variance) and math.isfinite(square):
            most = group["max_batch_size"]
            if square > SMALLEST:
                wanted = variance / (group["eta"] ** 2 * square)
            else:
                wanted = math.inf if variance > SMALLEST and most is not None else 0.0
            wanted = wanted if most is None else min(wanted, most)
            size = max(size, math.ceil(wanted))
        for one in self.param_groups:
            one["batch_size"] = size
        return size

    def measure(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
        """Set the gradients of the mean loss of a batch, adapt the batch size to their variance, and return the loss.

        `loss` takes outputs `(1, …)` and targets `(1, …)` of a single sample. The per-sample gradients are computed
        together, which requires memory for `batch · parameters` numbers. A single sample has no variance and leaves the
        batch size unchanged.
        """
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not named:
            raise ValueError("model must have a parameter that requires a gradient")
        if not len(x) or len(target) != len(x):
            raise ValueError(f"x and target must have the same samples, at least one, got {len(x)} and {len(target)}")
        buffers = dict(model.named_buffers())

        def of_one(parameters: dict[str, Tensor], one: Tensor, goal: Tensor) -> Tensor:
            outputs = call_with(model, {**buffers, **parameters}, one[None])
            value: Tensor = loss(outputs, goal[None])
            return value

        detached = {name: parameter.detach() for name, parameter in named.items()}
        each = torch.func.vmap(torch.func.grad_and_value(of_one), in_dims=(None, 0, 0))
        gradients, losses = each(detached, x, target)
        variance = square = 0.0
        for name, parameter in named.items():
            mean = gradients[name].mean(0)
            square += float(mean.square().sum())
            if len(x) > 1:
                variance += float(gradients[name].var(0).sum())
            parameter.grad = mean
        if len(x) > 1:
            self.adapt(variance, square)
        total: Tensor = losses.detach().mean()
        return total

    def _update(self) -> None:
        found = [(group, *pair) for group in self.param_groups for pair in _iterate_gradients(group)]
        moves = [(group, p, _add_decay(g, p, group["weight_decay"])) for group, p, g in found]
        whole = sum((gradient.square().sum() for _, _, gradient in moves), start=torch.zeros(()))
        for group, parameter, gradient in moves:
            state = self.state[parameter]
            if not state:
                state["sum"] = torch.zeros((), dtype=parameter.dtype) if group["norm"] else torch.zeros_like(parameter)
            state["sum"] += whole.to(parameter.dtype) if group["norm"] else gradient.square()
            parameter.addcdiv_(gradient, (state["sum"].sqrt() + group["eps"]).to(gradient.device), value=-group["lr"])


class AdaptiveBatchSampler:
    """A sampler of the rows of an epoch in batches of the optimiser's current batch size.

    Parameters
    ----------
    count : number of rows.
    optimizer : the optimiser whose `batch_size` is used for each batch.
    seed : seed of the order, which is the same in each pass over the sampler.
    """

    def __init__(self, count: int, optimizer: AdaptiveBatchAdaGrad, seed: int = 0) -> None:
        self.count = validation.positive_int("count", count)
        if not isinstance(optimizer, AdaptiveBatchAdaGrad):
            raise TypeError(f"optimizer must be an AdaptiveBatchAdaGrad, got {type(optimizer).__name__}")
        self.optimizer, self.seed = optimizer, seed

    def __iter__(self) -> Iterator[Tensor]:
        """Yield row numbers `(batch,) int64` until each has occurred once."""
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.seed))
        low = 0
        while low < self.count:
            high = low + self.optimizer.batch_size
            yield order[low:high]
            low = high


def build_optimizer(
    name: str, params: Iterable[Any], lr: float, *, momentum: float, batch: int, most: int, weight_decay: float = 0.0
) -> Optimizer:
    """Build the optimiser "diffgrad", "normalized", "adadagrad" or "adadagrad-norm" for a trainer.

    `momentum` is used by "normalized"; `batch` and `most` are the first and the largest batch of the adaptive ones.
    """
    if name == "diffgrad":
        return DiffGrad(params, lr, weight_decay=weight_decay)
    if name == "normalized":
        if weight_decay:
            raise ValueError(f"weight_decay must be 0 for optimizer 'normalized', got {weight_decay!r}")
        return NormalizedGradientDescent(params, lr, momentum)
    if name in ADAPTIVE:
        largest = max(most, batch)
        return AdaptiveBatchAdaGrad(
            params,
            lr,
            norm=name == "adadagrad-norm",
            batch_size=batch,
            max_batch_size=largest,
            weight_decay=weight_decay,
        )
    raise ValueError(f"optimizer must be 'diffgrad', 'normalized', 'adadagrad' or 'adadagrad-norm', got {name!r}")


def _iterate_gradients(group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for parameter in group["params"]:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                raise TypeError("params must have dense gradients, got a sparse one")
            yield parameter, parameter.grad


def _measure_norm(gradient: Tensor) -> float:
    real = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    return float(torch.linalg.vector_norm(real, dtype=torch.float64))


def _add_decay(gradient: Tensor, parameter: Tensor, decay: float) -> Tensor:
    return gradient.add(parameter, alpha=decay) if decay else gradient
