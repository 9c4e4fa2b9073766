"""The command `relaxon train proximal`: train a proximal operator on samples, with a report and a figure.

Imported on first use, for their weight: torch, rich, matplotlib, and the modules that need torch.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.training_bar import Record, nowhere, training_bar

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.model import ProximalModel
    from relaxon.neuromorphic.proximal.training.polishing import PolishSettings
    from relaxon.neuromorphic.proximal.training.recipes import Recipe

Array = NDArray[np.float64]
DEFAULT_OUT = Path("runs/proximal")
NETWORK = ("kind", "hidden", "kernel", "beta", "alpha")
MATCHING = ("noise", "start_steps", "gammas", "stage_steps", "rate", "matching_rate", "batch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data").add_argument
    data(
        "--data",
        required=True,
        help="laplace, digits, blocks, or a file of samples: .npz or .npy with shape (n, …), .csv with one a line",
    )
    network = parser.add_argument_group("network (defaults suit the data)").add_argument
    network("--kind", choices=("dense", "convolutional"))
    network("--hidden", type=int, nargs="+", help="numbers of units or channels of the hidden layers")
    network("--kernel", type=int, help="side of the convolutions' kernels, an odd number")
    network("--beta", type=float, help="sharpness of the softplus units")
    network("--alpha", type=float, help="weight of ‖x‖²")
    training = parser.add_argument_group("proximal matching (defaults suit the data)").add_argument
    training("--noise", type=float, help="standard deviation σ of the noise; R is −σ² log p")
    training("--start-steps", type=int, help="number of steps with the mean absolute error")
    training("--gammas", type=float, nargs="*", help="decreasing widths of the matching loss in units of σ")
    training("--stage-steps", type=int, help="number of steps with each width")
    training("--rate", type=float, help="initial learning rate of Adam")
    training("--matching-rate", type=float, help="initial learning rate of Adam in each stage")
    training("--batch", type=int, help="number of samples in a step")
    training(
        "--polish-gammas",
        type=float,
        nargs="*",
        help="widths of the matching loss in further stages, on evenly spread noisy signals by L-BFGS-B; for "
        "signals of few entries; no value for no such stages",
    )
    training("--seed", type=int, default=0)
    parser.add_argument(
        "--resume", action="store_true", help="write a checkpoint to --out, and resume from one found there"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="file for a figure of the result (PNG, SVG or PDF)")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder for the model; {DEFAULT_OUT}")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train with a progress bar, print the report, write the model; return 0, 1 for NaN, 2 for invalid arguments."""
    from rich.console import Console

    from relaxon.neuromorphic.proximal.evaluation import evaluate_model

    console, out = Console(stderr=True), Console()
    try:
        recipe = _find_recipe(args)
        model = _train(args, recipe, console)
    except (TypeError, ValueError, FileNotFoundError) as error:
        console.print(f"relaxon train proximal: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    assert model.training is not None
    if model.training.ended.value in ("non_finite", "diverged"):
        console.print(f"relaxon train proximal: {model.training.reason}", markup=False)
        return 1
    report = evaluate_model(model, recipe)
    record(report)
    model.save(args.out / "model", {"command": _format_command(args), "report": report})
    for name, value in report.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        out.print(f"{name.replace('_', ' ')}: {shown}", markup=False, highlight=False)
    if args.plot is not None:
        from relaxon.neuromorphic.proximal.pictures import draw_model

        draw_model(args.plot, model, recipe)
    out.print(f"Model is in {args.out}", markup=False, highlight=False)
    return 0


def _find_recipe(args: argparse.Namespace) -> Recipe:
    from relaxon.neuromorphic.proximal import datasets
    from relaxon.neuromorphic.proximal.training.recipes import NAMES, build_recipe, choose_recipe

    path = Path(args.data)
    if args.data in NAMES:
        recipe = choose_recipe(args.data, args.seed)
    elif path.suffix not in datasets.ENDINGS:
        raise ValueError(
            f"--data must be {', '.join(NAMES)} or a file that ends in {', '.join(datasets.ENDINGS)}, got {args.data!r}"
        )
    else:
        recipe = build_recipe(path.name, datasets.read_samples(path), args.seed)
    network = replace(recipe.network, **_select_given(args, NETWORK))
    matching = replace(
        recipe.matching, **_select_given(args, MATCHING), out=args.out / "checkpoint" if args.resume else None
    )
    return replace(recipe, network=network, matching=matching, polish=_choose_polish(args, recipe.polish))


def _choose_polish(args: argparse.Namespace, suited: PolishSettings | None) -> PolishSettings | None:
    from relaxon.neuromorphic.proximal.training.polishing import PolishSettings

    if args.polish_gammas is None:
        return suited
    return replace(suited or PolishSettings(), gammas=tuple(args.polish_gammas)) if args.polish_gammas else None


def _select_given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _format_command(args: argparse.Namespace) -> str:
    """The command that trains this model again."""
    words = ["relaxon train proximal --data", Path(args.data).name]
    for name in (*NETWORK, *MATCHING, "polish_gammas"):
        value = getattr(args, name)
        if value == []:
            words.append(f"--{name.replace('_', '-')}")
        elif value is not None:
            words.append(
                f"--{name.replace('_', '-')} " + " ".join(map(str, value if isinstance(value, list) else [value]))
            )
    return " ".join([*words, f"--seed {args.seed}"])


def _train(args: argparse.Namespace, recipe: Recipe, console: Any) -> ProximalModel:
    from relaxon.neuromorphic.proximal.training.matching import MatchingProgress, train_proximal
    from relaxon.neuromorphic.proximal.training.polishing import PolishProgress, polish_proximal

    with training_bar(console, "stage {task.fields[stage]}  error {task.fields[error]:.4g}") as bar:
        task = bar.add_task("steps", total=recipe.matching.steps, stage=0, error=math.nan)

        def show(progress: MatchingProgress) -> None:
            one = progress.record
            bar.update(task, completed=progress.step, stage=one.stage, error=math.sqrt(one.mean_square))

        model = train_proximal(recipe.train, recipe.network, recipe.matching, watcher=show)
    assert model.training is not None
    if recipe.polish is None or model.training.ended.value != "finished":
        return model
    with training_bar(console, "polishing, stage {task.fields[stage]}  loss {task.fields[loss]:.6g}") as bar:
        task = bar.add_task("iterations", total=None, stage=0, loss=math.nan)

        def show_polishing(progress: PolishProgress) -> None:
            done, total = progress.iteration, progress.iterations
            bar.update(task, completed=done, total=total, stage=progress.stage, loss=progress.loss)

        return polish_proximal(model, recipe.train, recipe.polish, watcher=show_polishing)
