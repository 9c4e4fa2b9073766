"""Where are the sources? Sources recovered from noisy observations of their field, with a learned prior.

    python source_recovery.py [--images 4] [--shares 1.0 0.1] [--side 32] [--plot PICTURE.png]

Rectangular sources of strength 1 lie on a square with the value 0 on its sides; the field solves −Δu = source. It is
observed in a share of the cells, with noise of 1 % of its largest value. The shipped prior "blocks" was trained on
other sources of the same kind. Tikhonov regularisation, total variation and the learned prior each use their best
weight from a grid.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from comparison import Array, Entry, compare, format_table

from relaxon.neuromorphic.proximal import CompositeOperator, MaskOperator, PoissonMap, ProximalModel, pretrained
from relaxon.neuromorphic.proximal.datasets import draw_blocks
from relaxon.neuromorphic.proximal.pictures import draw_rows
from relaxon.solvers import PoissonGrid

NOISE = 0.01
"""Standard deviation of the noise, as a part of the largest value of the field."""
SEED = 1000
"""Of the sources; those of the training have another."""


def recover(model: ProximalModel, images: int, share: float, side: int) -> tuple[Array, list[Entry]]:
    """Return the true sources and what each method makes of their observed fields."""
    generator = np.random.default_rng(SEED)
    sources = draw_blocks(images, side, SEED)
    grid = PoissonGrid(np.zeros((side, side), np.uint8), 1 / side, "dirichlet")
    observed = generator.random((side, side)) < share
    operator = CompositeOperator([PoissonMap(grid), MaskOperator(observed)])
    fields = np.stack([operator.apply(source) for source in sources])
    noise = NOISE * float(fields.max(1).mean())
    observations = fields + noise * generator.standard_normal(fields.shape)
    return sources, compare(model, operator, sources, observations, noise)


def main(argv: list[str] | None = None) -> int:
    """Print a table for each share of observed cells, and draw the reconstructions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.1], help="of the cells that are observed")
    parser.add_argument("--side", type=int, default=32, help="cells along an axis")
    parser.add_argument("--plot", type=Path, help="picture of the first share")
    args = parser.parse_args(argv)
    model = pretrained("blocks")
    for place, share in enumerate(args.shares):
        sources, entries = recover(model, args.images, share, args.side)
        print(f"\n{share:.0%} of {args.side}×{args.side} cells observed, noise {NOISE:.0%}, {args.images} sources")
        print(format_table(entries))
        if args.plot is not None and place == 0:
            titles = ["source", *(f"{entry.method}\n{entry.psnr:.1f} dB" for entry in entries)]
            draw_rows(titles, [sources, *(entry.images for entry in entries)]).savefig(args.plot, dpi=80)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
