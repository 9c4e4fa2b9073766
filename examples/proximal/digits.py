"""Digits that are blurred, or projected from a few angles, reconstructed with a learned prior and with classical ones.

    python digits.py [--images 6] [--tasks deblurring tomography] [--plot PICTURE.png]

The digits are scikit-learn's, enlarged to 16×16; those shown were held out from the training of the shipped
"digits-16". Deblurring: a Gaussian of 1.5 pixels and noise of 0.02. Tomography: 6 angles, noise of 1 % of the largest
projection.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from comparison import Array, Entry, compare, format_table

from relaxon.neuromorphic.proximal import BlurOperator, ForwardOperator, ProximalModel, RadonOperator, pretrained
from relaxon.neuromorphic.proximal.datasets import load_digit_images
from relaxon.neuromorphic.proximal.pictures import draw_rows

SIDE = 16
TASKS = ("deblurring", "tomography")
BLUR, BLUR_NOISE = 1.5, 0.02
ANGLES, PROJECTION_NOISE = 6, 0.01


def choose_operator(task: str) -> ForwardOperator:
    """Return the forward operator of a task."""
    if task == "deblurring":
        return BlurOperator.gaussian((SIDE, SIDE), BLUR)
    return RadonOperator((SIDE, SIDE), np.arange(ANGLES) * 180.0 / ANGLES)


def recover(model: ProximalModel, task: str, images: int) -> tuple[Array, list[Entry]]:
    """Return held-out digits and what each method makes of their observations."""
    truth = load_digit_images(SIDE)[1][:images]
    operator = choose_operator(task)
    clean = np.stack([operator.apply(image) for image in truth])
    noise = BLUR_NOISE if task == "deblurring" else PROJECTION_NOISE * float(clean.max())
    observations = clean + noise * np.random.default_rng(0).standard_normal(clean.shape)
    return truth, compare(model, operator, truth, observations, noise)


def main(argv: list[str] | None = None) -> int:
    """Print a table for each task, and draw the reconstructions of the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--plot", type=Path, help="picture; the task's name is put before its ending")
    args = parser.parse_args(argv)
    model = pretrained("digits-16")
    for task in args.tasks:
        truth, entries = recover(model, task, args.images)
        print(f"\n{task} of {args.images} digits")
        print(format_table(entries))
        if args.plot is not None:
            titles = ["digit", *(f"{entry.method}\n{entry.psnr:.1f} dB" for entry in entries)]
            path = args.plot.with_name(f"{args.plot.stem}-{task}{args.plot.suffix}")
            draw_rows(titles, [truth, *(entry.images for entry in entries)]).savefig(path, dpi=80)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
