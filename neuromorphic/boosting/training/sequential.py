"""Training a given torch module layer by layer, each layer a boosting stage on the frozen layers below it.

Source: S. Emami & G. Martínez-Muñoz, "A gradient boosting approach for training convolutional and deep neural
networks", IEEE Open Journal of Signal Processing 2023: stage t is the frozen backbone, one new layer and a linear head,
fitted to the residual of the sum of the heads before it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.boosting.networks.model_kernels import find_sums_along
from relaxon.neuromorphic.boosting.training.losses import BinaryLogLoss, LogLoss, Loss, SquaredLoss

HALVINGS = 40
LOSSES = ("squared", "log_loss")


@dataclass(frozen=True, slots=True)
class SequentialSettings:
    """How each layer is trained: Adam on minibatches of the residual, then a guarded step of `learning_rate`."""

    loss: Literal["squared", "log_loss"] = "squared"
    learning_rate: float = 1.0
    """η in (0, 1], of the boosting."""
    epochs: int = 100
    batch: int = 128
    rate: float = 1e-3
    """Adam's learning rate at its start; it falls to 0 along a cosine."""
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            validation.positive_int(name, getattr(self, name))
        validation.positive_float("rate", self.rate)
        validation.non_negative_float("weight_decay", self.weight_decay)
        if validation.positive_float("learning_rate", self.learning_rate) > 1.0:
            raise ValueError(f"learning_rate must be at most 1, got {self.learning_rate!r}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be {' or '.join(map(repr, LOSSES))}, got {self.loss!r}")


@dataclass(frozen=True, slots=True)
class SequentialProgress:
    """What a callback sees after each layer."""

    stage: int
    stages: int
    loss: float


class SequentiallyTrained(nn.Module):
    """The sum of the heads over the shared backbone: `F₀ + Σ_t head_t(layers_t(… layers_1(x)))`.

    Outputs are before any link: predictions, or logits (one column for two classes). `losses` has the training loss at
    the start and after each stage.
    """

    initial: Tensor

    def __init__(self, blocks: list[nn.Module], heads: list[nn.Module], initial: Tensor, losses: list[float]) -> None:
        super().__init__()
        self.blocks, self.heads = nn.ModuleList(blocks), nn.ModuleList(heads)
        self.register_buffer("initial", initial)
        self.losses = list(losses)

    @property
    def stages(self) -> int:
        return len(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        out = self.initial.expand(len(x), -1)
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = block(x)
            out = out + head(x)
        return out

    def truncated(self, stages: int) -> SequentiallyTrained:
        """The network of the first `stages` layers, as it was when they were trained."""
        if not 0 <= stages <= self.stages:
            raise ValueError(f"stages must be between 0 and {self.stages}, got {stages!r}")
        blocks = [copy.deepcopy(block) for block in self.blocks[:stages]]
        heads = [copy.deepcopy(head) for head in self.heads[:stages]]
        shorter = SequentiallyTrained(blocks, heads, self.initial.clone(), self.losses[: stages + 1])
        return shorter.eval()


def train_sequentially(
    module: nn.Sequential,
    X: ArrayLike,
    y: ArrayLike,
    settings: SequentialSettings | None = None,
    callback: Callable[[SequentialProgress], object] | None = None,
) -> SequentiallyTrained:
    """Train a copy of `module` layer by layer; `module` and the data stay as they are.

    `module` is an `nn.Sequential` whose last layer with parameters is a `Linear` and becomes the last stage's head;
    each layer with parameters before it starts a stage. `X` is `(n, …)` as the module takes it; `y` is `(n,)` or
    `(n, K)` numbers, or integer labels `(n,)` from 0 for "log_loss" (two classes: one logit, so the module has one
    output). The training loss never rises. A callback that returns `True` ends training with the stages done.
    """
    settings = settings or SequentialSettings()
    features, targets, loss = _check_data(X, y, settings, module)
    blocks, own_head = _split_module(copy.deepcopy(module))
    w = np.full(targets.shape[1], 1.0 / targets.shape[1])
    start = loss.initial(targets, w)
    F = np.tile(start[:, None], (1, targets.shape[1]))
    values = loss.values(targets, F, w)
    heads: list[nn.Module] = []
    losses = [float(values.mean())]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for index, block in enumerate(blocks):
            with torch.no_grad():
                width = block.eval()(features[:1]).flatten(1).shape[1]
            head = (
                own_head
                if index + 1 == len(blocks)
                else nn.Sequential(nn.Flatten(), _make_linear(width, len(F), module))
            )
            r = loss.residual(targets, F)
            unit = float(np.sqrt(np.square(r).mean())) or 1.0
            _fit_block(block, head, features, torch.as_tensor((r / unit).T, dtype=features.dtype), settings)
            with torch.no_grad():
                features = _apply_in_batches(block.eval(), features, settings.batch)
                f = _apply_in_batches(head, features, settings.batch).double().numpy().T
            moved = _find_guarded_step(loss, targets, F, r, f, w, values, settings.learning_rate)
            _scale_head(head, moved)
            F = F + moved[:, None] * f
            values = loss.values(targets, F, w)
            for parameter in [*block.parameters(), *head.parameters()]:
                parameter.requires_grad_(False)
            heads.append(head.eval())
            losses.append(float(values.mean()))
            if callback is not None and callback(SequentialProgress(index + 1, len(blocks), losses[-1])) is True:
                break
    initial = torch.as_tensor(start, dtype=features.dtype)
    # Logits of two classes: F is half of them.
    if loss.gain != 1.0:
        initial = initial * loss.gain
        for head in heads:
            _scale_head(head, np.full(len(F), loss.gain))
    return SequentiallyTrained(blocks[: len(heads)], heads, initial, losses).eval()


def _fit_block(block: nn.Module, head: nn.Module, x: Tensor, targets: Tensor, settings: SequentialSettings) -> None:
    block.train()
    head.train()
    parameters = [*block.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, settings.rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-len(x) // settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(x)).split(settings.batch):  # type: ignore[no-untyped-call]
            optimiser.zero_grad()
            error: Tensor = (head(block(x[rows])) - targets[rows]).square().mean()
            error.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def _find_guarded_step(
    loss: Loss,
    y: NDArray[np.float64],
    F: NDArray[np.float64],
    r: NDArray[np.float64],
    f: NDArray[np.float64],
    w: NDArray[np.float64],
    values: NDArray[np.float64],
    rate: float,
) -> NDArray[np.float64]:
    """`η ρ` per output: Newton's step, halved until the loss does not rise; 0 where no step is found."""
    rho = loss.guarded_step(y, F, r, f, w, *find_sums_along(r, f, w)[:2])
    reach = np.abs(rho) * np.abs(f).max(axis=1)
    rho = np.where(reach > loss.radius, rho * loss.radius / np.maximum(reach, np.finfo(float).tiny), rho)
    for _ in range(HALVINGS):
        with np.errstate(over="ignore", invalid="ignore"):
            worse = ~(loss.values(y, F + rate * rho[:, None] * f, w) <= values)
        if not worse.any():
            return np.asarray(rate * rho)
        rho = np.where(worse, 0.5 * rho, rho) if loss.separable else 0.5 * rho
    return np.zeros(len(F))


def _scale_head(head: nn.Module, by: NDArray[np.float64]) -> None:
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        factor = torch.as_tensor(by, dtype=linear.weight.dtype)
        linear.weight.mul_(factor[:, None])
        if linear.bias is not None:
            linear.bias.mul_(factor)


def _apply_in_batches(module: nn.Module, x: Tensor, batch: int) -> Tensor:
    return torch.cat([module(part) for part in x.split(batch)])  # type: ignore[no-untyped-call]


def _make_linear(width: int, outputs: int, like: nn.Module) -> nn.Linear:
    return nn.Linear(width, outputs, dtype=next(like.parameters()).dtype)


def _split_module(module: nn.Sequential) -> tuple[list[nn.Module], nn.Module]:
    """The layers in stages, each from a layer with parameters up to the next, and the last layer as a head."""
    children = list(module.children())
    with_parameters = [index for index, child in enumerate(children) if any(True for _ in child.parameters())]
    # Normalisation has parameters too, but is part of the layer before it.
    weighty = [index for index in with_parameters if any(p.ndim > 1 for p in children[index].parameters())]
    if not isinstance(module, nn.Sequential) or len(weighty) < 2 or not isinstance(children[weighty[-1]], nn.Linear):
        raise ValueError(
            "module must be an nn.Sequential of at least two layers with weights, the last of them a Linear; "
            f"got {module}"
        )
    last = weighty[-1]
    if last != len(children) - 1:
        raise ValueError(f"module must end with its Linear layer, got {children[-1]} after it: leave the link out")
    starts = [0, *weighty[1:-1], last]
    # Layers without weights just before the head (a Flatten) belong to the stage before.
    blocks: list[nn.Module] = [nn.Sequential(*children[low:high]) for low, high in pairwise(starts)]
    return blocks, children[last]


def _check_data(X: Any, y: Any, settings: SequentialSettings, module: Any) -> tuple[Tensor, NDArray[np.float64], Loss]:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Sequential, got {type(module).__name__}")
    refuse_masks(X=X, y=y)
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    x = np.array(X, dtype=np.float64)
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"X must be (n, …) with n ≥ 1, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"X must be finite, got {int((~np.isfinite(x)).sum())} NaN or infinite of {x.size} entries")
    targets = np.asarray(y)
    if targets.ndim not in (1, 2) or len(targets) != len(x):
        raise ValueError(f"y must be (n,) or (n, K) with n = {len(x)}, got shape {targets.shape}")
    with torch.no_grad():
        outputs = copy.deepcopy(module).eval()(torch.as_tensor(x[:1], dtype=dtype)).reshape(1, -1).shape[1]
    features = torch.as_tensor(x, dtype=dtype)
    if settings.loss == "squared":
        numbers = targets.astype(np.float64).reshape(len(x), -1)
        if not np.isfinite(numbers).all():
            raise ValueError("y must be finite, got NaN or infinite entries")
        if numbers.shape[1] != outputs:
            raise ValueError(f"module must have an output for each of {numbers.shape[1]} targets, got {outputs}")
        return features, np.ascontiguousarray(numbers.T), SquaredLoss()
    if targets.ndim != 1 or targets.dtype.kind not in "iu" or targets.min() < 0:
        raise TypeError(f"y must be integer labels (n,) from 0, got dtype {targets.dtype}, shape {targets.shape}")
    classes = int(targets.max()) + 1
    present = np.bincount(targets, minlength=classes)
    if classes < 2 or not present.all():
        raise ValueError(f"y must have every label from 0 to its largest, and two at least, got {present.tolist()}")
    if outputs != (1 if classes == 2 else classes):
        raise ValueError(f"module must have {1 if classes == 2 else classes} outputs, got {outputs}")
    if classes == 2:
        return features, (2.0 * targets - 1.0)[None], BinaryLogLoss()
    return features, np.eye(classes)[targets].T.copy(), LogLoss()
