"""Sensitivity of a packing of soft spheres: how positions at rest move as the diameter of half the spheres grows.

    python molecular_dynamics.py [PARTICLES] [PICTURE.png]

Spheres in a square box with soft walls repel each other where they overlap, `U = ½ (1 − r/σ)²` for r < σ, half of them
with diameter 1, half with θ = 0.6 (M. Blondel et al. 2022, section 4; their box is periodic). FIRE (E. Bitzek et al.
2006) lets them come to rest; the derivative of all positions in θ is one forward-mode product with the force as the
optimality condition. A weak spring ties every sphere to its initial position, so that spheres without contacts have a
definite place. Unrolling FIRE is of no use here: its steps depend on the sign of the power, and its rates of change
grow with the steps.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from relaxon.implicit import ImplicitOptions, custom_root, stationary

LARGE, SMALL = 1.0, 0.6
DENSITY = 1.0  # area of the discs over that of the box: jammed
SPRING = 1e-3
LONGEST_STEP = 0.3  # of FIRE: below 2 over the root of the largest curvature, about 16


def box_side(count: int) -> float:
    """Return the side of the box that `count` discs, half of either size, fill to the density."""
    return math.sqrt(count * math.pi / 8 * (LARGE**2 + SMALL**2) / DENSITY)


def scatter(count: int, seed: int = 0) -> Tensor:
    """Return positions (count, 2), uniform in the box."""
    generator = torch.Generator().manual_seed(seed)
    return box_side(count) * torch.rand(count, 2, generator=generator, dtype=torch.float64)


def energy(x: Tensor, diameter: Tensor, origin: Tensor) -> Tensor:
    """Return the energy of positions (n, 2); half of them have the given diameter, springs hold all to `origin`."""
    count = len(x)
    sizes = torch.cat((x.new_full((count // 2,), LARGE), diameter * x.new_ones(count - count // 2)))
    first, second = torch.triu_indices(count, count, 1)
    square = (x[first] - x[second]).square().sum(-1)
    reach = 0.5 * (sizes[first] + sizes[second])
    touching = square.detach() < reach.detach() ** 2
    distance = torch.where(touching, square, torch.ones_like(square)).sqrt()
    pairs = torch.where(touching, (1 - distance / reach) ** 2, torch.zeros_like(square)).sum()
    radius = 0.5 * sizes.unsqueeze(-1)
    walls = torch.relu(1 - torch.cat((x, box_side(count) - x), -1) / radius).square().sum()
    return 0.5 * (pairs + walls + SPRING * (x - origin).square().sum())


def come_to_rest(start: Tensor, diameter: Tensor, origin: Tensor, tolerance: float = 1e-12) -> Tensor:
    """Return positions at rest, by FIRE: velocities turned towards the force, stopped where they run uphill."""
    force = torch.func.grad(lambda x: -energy(x, diameter, origin))
    x, velocity = start, torch.zeros_like(start)
    step, mixing, downhill = 0.1, 0.1, 0
    for _ in range(50_000):
        f = force(x)
        if f.abs().max() < tolerance:
            break
        if (f * velocity).sum() > 0:
            velocity = (1 - mixing) * velocity + mixing * f * (velocity.norm() / f.norm())
            downhill += 1
            if downhill > 5:
                step, mixing = min(1.1 * step, LONGEST_STEP), 0.99 * mixing
        else:
            velocity, downhill, step, mixing = torch.zeros_like(x), 0, 0.5 * step, 0.1
        velocity = velocity + step * f
        x = x + step * velocity
    return x


positions = custom_root(stationary(energy), options=ImplicitOptions(symmetric=True))(come_to_rest)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    origin = scatter(count)
    diameter = torch.tensor(SMALL, dtype=torch.float64)
    rest, moves = torch.func.jvp(lambda d: positions(origin, d, origin), (diameter,), (torch.ones_like(diameter),))
    width = 1e-6
    ends = [come_to_rest(origin, diameter + sign * width, origin) for sign in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * width)
    error = float((moves - difference).norm() / difference.norm())
    print(f"{count} spheres in a box of side {box_side(count):.2f}: ‖dx/dθ‖ = {float(moves.norm()):.4f}")
    print(f"relative difference to two more simulations: {error:.1e}")
    if len(sys.argv) > 2:
        draw(sys.argv[2], rest, moves)
    return 0 if error < 1e-3 else 1


def draw(path: str, rest: Tensor, moves: Tensor) -> None:
    """Write a picture of the packing with the derivative of each position as an arrow."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Circle

    count, side = len(rest), box_side(len(rest))
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    for number, (x, y) in enumerate(rest.tolist()):
        large = number < count // 2
        colour = "#9ecae1" if large else "#fdae6b"
        axes.add_patch(Circle((x, y), 0.5 * (LARGE if large else SMALL), facecolor=colour, edgecolor="grey", alpha=0.7))
    axes.quiver(*rest.T.numpy(), *moves.T.numpy(), angles="xy", scale_units="xy", scale=4, width=0.004)
    axes.set(xlim=(0, side), ylim=(0, side), aspect="equal", xticks=[], yticks=[])
    axes.set_title("packing, and dx/dθ (÷ 4) in the diameter of the small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
