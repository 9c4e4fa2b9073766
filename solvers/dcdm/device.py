"""The deep conjugate direction method on a device that torch knows: a GPU, or the CPU by the same code.

Levels are set up by the compiled code and moved to the device once. `b` and `x` are float64 there, everything that the
iteration passes over otherwise is float32, and one transfer of four numbers a step tells the host how it goes. With
`compiled`, torch.compile fuses the passes of each level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relaxon.core.naming import DeviceUnavailableError
from relaxon.core.solution import Result
from relaxon.solvers.dcdm.cycle import MAX_ITERATIONS, constants_for
from relaxon.solvers.dcdm.outer import NEGLIGIBLE, SAFEGUARD_STEPS, STAGNATION_STEPS
from relaxon.solvers.dcdm.rescue import Rescued
from relaxon.solvers.dcdm.single_precision import FAR, REPLACED_AFTER
from relaxon.solvers.dcdm.torch_cycle import coupled
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.krylov.iteration import Steps, end_of, iterate
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.levels import FusedLevel
from relaxon.solvers.multigrid.transfers import TransferTables

Wrap = tuple[bool, bool, bool]
DEVICES = ("cpu", "cuda", "xpu")
FUSED_LEVELS = 3
"""The number of levels whose passes torch.compile fuses; on deeper ones, which are small, it does not pay."""


def find_device(name: str) -> torch.device:
    """Return the device of that name; ValueError for no known name, `DeviceUnavailableError` where it is absent."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be a device of torch such as 'cuda' or 'cpu', got {name!r}") from error
    if device.type not in DEVICES:
        raise ValueError(f"device must be of {', '.join(DEVICES)}, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda or "none"
        raise DeviceUnavailableError(f"device {name!r}: torch {torch.__version__} (CUDA: {built}) finds no GPU here")
    try:
        torch.empty(1, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        text = str(error).splitlines()[0]
        raise DeviceUnavailableError(f"device {name!r} cannot hold float64 numbers: {text}") from error
    return device


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Raise `MemoryError` for what does not fit on the device, as on the CPU."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"{device} has not enough memory: {str(error).splitlines()[0]}") from error


def shifted(x: Tensor, axis: int, wrap: bool) -> Tensor:
    """Return the sum of both neighbours along an axis, 0 beyond a side that is not periodic."""
    n = x.shape[axis]
    if wrap:
        return torch.roll(x, 1, axis) + torch.roll(x, -1, axis)
    if n == 1:
        return torch.zeros_like(x)
    edge = torch.zeros_like(x.narrow(axis, 0, 1))
    below = torch.cat([edge, x.narrow(axis, 0, n - 1)], axis)
    return below + torch.cat([x.narrow(axis, 1, n - 1), edge], axis)


@dataclass(slots=True)
class FinestOperator:
    """`A` of κ = 1, divided by its unit: the diagonal is kept, couplings are numbers."""

    diagonal: Tensor
    mask: Tensor
    """1 in the fluid, else 0."""
    weights: tuple[float, float, float]
    wrap: Wrap

    def apply(self, x: Tensor) -> Tensor:
        total = self.diagonal * x
        for axis, weight in enumerate(self.weights):
            if weight:
                total = total - weight * shifted(x, axis, self.wrap[axis])
        return total * self.mask


@dataclass(slots=True)
class CoarseOperator:
    """`A` of a coarser level: a diagonal, and the coupling to the cell below along each axis."""

    diagonal: Tensor
    lower: tuple[Tensor, Tensor, Tensor]

    def apply(self, x: Tensor) -> Tensor:
        return coupled(self.diagonal, self.lower, x)


@dataclass(slots=True)
class AxisTransfer:
    """Interpolation along one axis, and its transpose."""

    own: Tensor
    other: Tensor
    near: Tensor
    far: Tensor
    sources: Tensor
    """Fine cells that a coarse one gathers, `(4, m)`."""
    weights: Tensor

    @classmethod
    def of(cls, tables: TransferTables, device: torch.device) -> AxisTransfer | None:
        """Return the transfer of one axis; None where the axis is not coarsened."""
        n, m = len(tables.own), len(tables.base)
        if n == m and not np.any(tables.far):
            return None
        sources = (tables.base[None, :] + np.arange(4)[:, None]) % n

        def on(array: Any) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), device=device)

        return cls(on(tables.own), on(tables.other), on(tables.near), on(tables.far), on(sources), on(tables.weights.T))

    def spread(self, coarse: Tensor, axis: int) -> Tensor:
        """Interpolate to the fine cells."""
        shape = [1, 1, 1]
        shape[axis] = -1
        near, far = self.near.view(shape), self.far.view(shape)
        return near * coarse.index_select(axis, self.own) + far * coarse.index_select(axis, self.other)

    def gather(self, fine: Tensor, axis: int) -> Tensor:
        """Restrict to the coarse cells."""
        shape = [1, 1, 1]
        shape[axis] = -1
        parts = [w.view(shape) * fine.index_select(axis, s) for s, w in zip(self.sources, self.weights, strict=True)]
        found: Tensor = parts[0] + parts[1] + parts[2] + parts[3]
        return found


class DeviceLevel:
    """One level on the device: its passes down and up."""

    def __init__(self, level: FusedLevel, wrap: Wrap, operator: FinestOperator | None, device: torch.device) -> None:
        def on(array: Any) -> Tensor:
            return torch.as_tensor(np.asarray(array, np.float32), device=device)

        self.wrap = wrap
        self.operator: FinestOperator | CoarseOperator
        if operator is not None:
            self.operator, self.unknown = operator, operator.mask
        else:
            first, second, third = level.couplings
            self.operator = CoarseOperator(on(level.diagonal), (on(first), on(second), on(third)))
            self.unknown = on(level.unknown)
        self.gain = None if level.gain is None else on(level.gain.reshape(level.shape))
        self.index = self.inverse = None
        if level.inverse is not None:
            self.index = torch.as_tensor(level.index, device=device)
            self.inverse = on(level.inverse)
            return
        inner, outer = level.smoother.stencil
        self.multiplier = on(level.multiplier)
        # By steps along the axes: [first][second][last].
        self.stencil = [[[float(inner[2 * a + b]), float(outer[2 * a + b])] for b in (0, 1)] for a in (0, 1)]
        self.share = on(level.share)
        assert level.tables is not None
        self.transfers = [AxisTransfer.of(table, device) for table in level.tables]

    def smoothed(self, x: Tensor) -> Tensor:
        """`K x`, the stencil's 27 points."""
        last = shifted(x, 2, self.wrap[2])
        planes = []
        for a in (0, 1):
            rows = [self.stencil[a][b][0] * x + self.stencil[a][b][1] * last for b in (0, 1)]
            planes.append(rows[0] + shifted(rows[1], 1, self.wrap[1]))
        return planes[0] + shifted(planes[1], 0, self.wrap[0])

    def down(self, r: Tensor, below_gain: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first smoothing, and the residual for the level below."""
        x = self.multiplier * self.smoothed(r)
        e = self.share * (r - self.operator.apply(x))
        for axis, transfer in enumerate(self.transfers):
            if transfer is not None:
                e = transfer.gather(e, axis)
        return x, below_gain * e

    def up(self, r: Tensor, x: Tensor, below_gain: Tensor, e: Tensor) -> Tensor:
        """Return the level's correction, by that from below and the second smoothing."""
        e = below_gain * e
        for axis, transfer in enumerate(self.transfers):
            if transfer is not None:
                e = transfer.spread(e, axis)
        x = x + self.share * e
        return x + self.unknown * self.smoothed(self.multiplier * (r - self.operator.apply(x)))

    def exact(self, r: Tensor) -> Tensor:
        """Return the solution on the coarsest level."""
        assert self.inverse is not None
        assert self.index is not None
        z = torch.zeros_like(r)
        z.view(-1)[self.index] = self.inverse @ r.reshape(-1)[self.index]
        return z


class DeviceCycle:
    """`z ← M r` on the device, as `FusedCycle` to rounding."""

    def __init__(self, cycle: FusedCycle, operator: PoissonOperator, device: torch.device, compiled: bool) -> None:
        planes = operator.planes
        wrap = cycle.wrap
        diagonal = np.ascontiguousarray(planes.table[planes.code])
        mask = torch.as_tensor((planes.code != 0).astype(np.float32), device=device)
        weights = [float(w) if n > 1 or p else 0.0 for w, n, p in zip(planes.weights, planes.shape, wrap, strict=True)]
        single = torch.as_tensor(diagonal.astype(np.float32), device=device)
        self.operator = FinestOperator(single, mask, (weights[0], weights[1], weights[2]), wrap)
        self._table = torch.as_tensor(np.asarray(planes.table, np.float64), device=device)
        self._code = torch.tensor(planes.code, device=device)
        self.device, self.unit, self.info = device, cycle.unit, dict(cycle.info)
        self._visits = cycle.visits
        self.levels = [
            DeviceLevel(level, wrap, self.operator if depth == 0 else None, device)
            for depth, level in enumerate(cycle.levels)
        ]

        def made(function: Any, depth: int) -> Any:
            return torch.compile(function, dynamic=False) if compiled and depth < FUSED_LEVELS else function

        self._down = [made(level.down, depth) for depth, level in enumerate(self.levels)]
        self._up = [made(level.up, depth) for depth, level in enumerate(self.levels)]
        self.apply_operator: Callable[[Tensor], Tensor] = made(self.operator.apply, 0)

    def residual(self, b: Tensor, x: Tensor) -> Tensor:
        """`b / unit − A x` in float64."""
        diagonal = self._table[self._code.int()]
        operator = FinestOperator(diagonal, self.operator.mask, self.operator.weights, self.operator.wrap)
        return b / self.unit - operator.apply(x)

    def magnitude(self, b: Tensor, x: Tensor) -> Tensor:
        """`|b| / unit + |A| |x|` in float64: what `residual` is compared with row by row."""
        diagonal = self._table[self._code.int()]
        first, second, third = (-weight for weight in self.operator.weights)
        operator = FinestOperator(diagonal, self.operator.mask, (first, second, third), self.operator.wrap)
        return b.abs() / self.unit + operator.apply(x.abs())

    def __call__(self, r: Tensor, depth: int = 0) -> Tensor:
        level = self.levels[depth]
        if level.inverse is not None:
            return level.exact(r)
        below = self.levels[depth + 1]
        assert below.gain is not None
        x, coarse = self._down[depth](r, below.gain)
        e = self(coarse, depth + 1)
        if depth == 0 and below.inverse is None:
            for _ in range(self._visits - 1):
                e = e + self(coarse - below.operator.apply(e), 1)
        found: Tensor = self._up[depth](r, x, below.gain, e)
        return found


def _take_back(x: Tensor, d: Tensor, factor: Tensor) -> None:
    """`x ← x − factor·d`."""
    x.sub_(d.double() * factor)


def total(x: Tensor, y: Tensor) -> Tensor:
    """`⟨x, y⟩`, summed in float64."""
    return (x * y).sum(dtype=torch.float64)


class DeviceDirections(Prepared):
    """The outer iteration of `FusedDirections` on a device, for a window of at most one direction."""

    def __init__(self, operator: PoissonOperator, cycle: DeviceCycle, window: int, max_iterations: int) -> None:
        self.operator = operator
        self.cycle = cycle
        self.default_max_iterations = max_iterations
        self.info = {"window": float(window), **cycle.info}
        self._window = window
        self._shape = operator.planes.shape
        diagonal = cycle.operator.diagonal
        self.fluid = torch.tensor(operator.grid.fluid.reshape(self._shape), device=cycle.device)
        """The fluid cells, for those who bring tensors."""
        self._inverse = torch.where(diagonal > 0, 1 / diagonal.clamp(min=1e-30), 0.0)

    def run(self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, max_iterations: int) -> Result:
        device = self.cycle.device
        with memory_errors(device):
            there = torch.as_tensor(x.reshape(self._shape), device=device).clone()
            right = torch.as_tensor(b.reshape(self._shape), device=device)
            result = self.run_there(right, there, monitor, max_iterations)
        x[...] = there.cpu().numpy().reshape(x.shape)
        return result

    def run_there(self, b: Tensor, x: Tensor, monitor: Monitor, max_iterations: int) -> Result:
        """Run with float64 tensors of the planes' shape on the device; `x` is improved in place."""
        return iterate(self._take_steps(b, x, monitor), monitor, max_iterations, STAGNATION_STEPS)

    def _take_steps(self, b: Tensor, x: Tensor, monitor: Monitor) -> Steps:
        cycle, unit = self.cycle, self.cycle.unit
        scale = 1.0 / float(torch.linalg.vector_norm(b))
        r64 = cycle.residual(b, x)
        norm = exact = unit * float(torch.linalg.vector_norm(r64))
        since = yield norm
        if not 1 / FAR < norm * scale < FAR:
            scale = 1.0 / norm
        # `r` holds `scale · (b − A x)`, `d` and `q` are in the units of `A / unit`.
        r = (r64 * (unit * scale)).float()
        past: tuple[Tensor, Tensor, Tensor] | None = None
        while True:
            length = norm * scale
            for attempt in ("learned", "plain", "descent"):
                if attempt == "learned" and since >= SAFEGUARD_STEPS:
                    continue
                if attempt == "plain":
                    monitor.fallbacks += 1
                z = cycle(r) if attempt == "learned" else self._inverse * r
                kept = past if attempt != "descent" else None
                d = z if kept is None else z - (total(z, kept[1]) / kept[2]).float() * kept[0]
                q = cycle.apply_operator(d)
                curvature, projection = total(d, q), total(d, r)
                good = (curvature > 0) & (projection.abs() > NEGLIGIBLE * length * curvature.clamp(min=0).sqrt())
                if attempt != "learned":
                    good = curvature > 0
                alpha = torch.where(good, projection / curvature, torch.zeros_like(curvature))
                new = r - alpha.float() * q
                square, fine, bent = torch.stack([total(new, new), good.double(), curvature]).tolist()
                if fine:
                    break
            else:
                return end_of(bent)
            factor = alpha / (scale * unit)
            x.add_(d.double() * factor)
            monitor.stepped(partial(_take_back, x, d, factor))
            r = new
            past = (d, q, curvature) if self._window else None
            norm = math.sqrt(square) / scale
            if norm <= REPLACED_AFTER * exact and norm > monitor.tolerance:
                r64 = cycle.residual(b, x)
                norm = exact = unit * float(torch.linalg.vector_norm(r64))
                scale = 1.0 / norm
                r = (r64 * (unit * scale)).float()
            since = yield norm


@dataclass(frozen=True, slots=True)
class DeviceConjugateDirections(Solver):
    """`dcdm` on a device of torch, for κ = 1.

    Parameters
    ----------
    device : "cuda", "cuda:1", or "cpu" for the same code without a GPU.
    window : directions to orthogonalise against, 0 or 1.
    compiled : fuse the passes with torch.compile; None for where that pays (GPUs with Triton).
    rescue : as for `DeepConjugateDirectionCycle`; what is handed over to runs on the CPU.

    Raises
    ------
    ValueError : the name is no device's. DeviceUnavailableError : the device is not present, or cannot hold float64.
    """

    device: str = "cuda"
    window: int = 1
    compiled: bool | None = None
    rescue: bool = True
    name: ClassVar[str] = "dcdm"
    summary: ClassVar[str] = "deep conjugate directions, learned multigrid cycle, on a device of torch"

    def __post_init__(self) -> None:
        find_device(self.device)
        if self.window not in (0, 1):
            raise ValueError(f"window must be 0 or 1 on a device, got {self.window!r}")

    def prepare(self, operator: PoissonOperator) -> Prepared:
        if not operator.grid.constant:
            raise ValueError(
                "device: κ must be 1 on cells of equal widths, with no reaction and no Robin or node sides, for "
                f"a solve on a device, got {operator.grid}"
            )
        device = find_device(self.device)
        compiled = self.compiled
        if compiled is None:
            compiled = device.type == "cuda" and find_spec("triton") is not None
        fused = FusedCycle(operator, constants_for(operator.grid.ndim))
        with memory_errors(device):
            cycle = DeviceCycle(fused, operator, device, compiled)
            found = DeviceDirections(operator, cycle, self.window, MAX_ITERATIONS)
        found.reason = f"on {describe(device)}"
        if not self.rescue:
            return found
        rescued = Rescued(found, operator)
        rescued.reason = found.reason
        return rescued


def describe(device: torch.device) -> str:
    """Return a device's name for display."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else f"{device} by torch"
