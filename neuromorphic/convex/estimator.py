"""The base class of the two estimators: checks of parameters, training, prediction, storage."""

# Imported on first use, for its weight: `export`.

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.neuromorphic.convex.network import ConvexNetwork, augment, recover
from relaxon.neuromorphic.convex.program.cones import PatternCones, draw_patterns
from relaxon.neuromorphic.convex.program.formulation import ConvexObjective, PatternProgram, Program, UnitProgram
from relaxon.neuromorphic.convex.program.losses import ConvexLoss
from relaxon.neuromorphic.convex.solving.admm import (
    AdmmSettings,
    AdmmSolution,
    Callback,
    ConvexHistory,
    ConvexOutcome,
    solve_admm,
)
from relaxon.neuromorphic.convex.solving.certificate import ConvexCertificate, certify, draw_units
from relaxon.neuromorphic.convex.solving.refinement import refine
from relaxon.neuromorphic.estimator_files import describe_estimator, write_estimator
from relaxon.neuromorphic.parameters import check_choice, check_real, check_whole
from relaxon.neuromorphic.table_estimators import NetworkEstimator, draw_seed, read_rows
from relaxon.neuromorphic.tabular import preparation

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
PROGRAMS = ("patterns", "units")
ROUGH = 1e-3
"""Relative gap at which a round of training ends, except for the last round."""


class ConvexEstimator(NetworkEstimator):
    """Base class of the estimators; subclasses define targets and loss."""

    network_: ConvexNetwork
    certificate_: ConvexCertificate
    history_: ConvexHistory
    outcome_: ConvexOutcome
    n_iter_: int

    @property
    def n_units_(self) -> int:
        """Number of hidden units of the network: nonzero variables of the program."""
        return int(self._fitted().units)

    def to_torch(self) -> torch.nn.Module:
        """Return the network as a torch module in float64: inputs `(n, d)` to outputs `(n, K)`, before any link."""
        from relaxon.neuromorphic.convex.export import to_torch

        return to_torch(self._fitted())

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to the folder `path`: `network.safetensors` and `model.json`, no pickle."""
        network, history = self._fitted(), self.history_
        content = describe_estimator(self, ("ConvexNetworkRegressor", "ConvexNetworkClassifier"))
        content |= {"iterations": self.n_iter_, "certificate": asdict(self.certificate_)}
        arrays = {field.name: getattr(network, field.name) for field in fields(network)}
        arrays |= {f"history_{field.name}": getattr(history, field.name) for field in fields(history)}
        write_estimator(Path(path), content, arrays)

    def check_parameters(self) -> None:
        """Raise `ValueError` or `TypeError` for a parameter that `fit` would reject for any data."""
        check_whole("n_patterns", self.n_patterns, 1)
        check_whole("max_iter", self.max_iter, 1)
        check_whole("refinements", self.refinements, 0)
        check_whole("largest_factor", self.largest_factor, 1)
        check_whole("certificate_draws", self.certificate_draws, 0)
        check_real("beta", self.beta, above=0.0)
        check_real("tol", self.tol, above=0.0)
        check_real("epsilon", self.epsilon, least=0.0)
        check_choice("program", self.program, PROGRAMS)
        if self.epsilon > 0.0 and self.program != "patterns":
            raise ValueError(f"epsilon must be 0 for program='units', which has no robust form, got {self.epsilon!r}")

    # ---- training ------------------------------------------------------------------------------------------------

    def _train(
        self, x: Array, w: Array, loss: ConvexLoss, shift: Array, unit: Array, callback: Callback | None
    ) -> None:
        """Solve the program of features (n, d), weights (n,) and a loss with targets scaled by `shift` and `unit`."""
        rng = np.random.default_rng(draw_seed(self.random_state))
        x_shift, x_scale = preparation.find_standardisation(x, w)
        seen = augment(x, x_shift, x_scale)
        objective = ConvexObjective(loss, w / w.sum(), float(self.beta), len(unit))
        box = np.append(float(self.epsilon) * x_scale, 0.0)
        program = self._program(objective, seen, box, rng)
        settings = AdmmSettings(float(self.tol), int(self.max_iter), largest_factor=int(self.largest_factor))
        program, solved = self._solve(program, settings, rng, callback)
        hidden, output = recover(program, solved.variables)
        self.network_ = ConvexNetwork(hidden, output, x_shift, x_scale, shift, unit)
        self.certificate_ = certify(program, solved, seen, int(self.certificate_draws), rng)
        self.history_, self.outcome_, self.n_iter_ = solved.history, solved.outcome, solved.iterations

    def _solve(
        self, program: Program, settings: AdmmSettings, rng: np.random.Generator, callback: Callback | None
    ) -> tuple[Program, AdmmSolution]:
        """Solve the program, then up to `refinements` times with new patterns that violate the dual."""
        rounds = int(self.refinements) if isinstance(program, PatternProgram) else 0
        first = replace(settings, tolerance=max(settings.tolerance, ROUGH)) if rounds else settings
        solved = solve_admm(program, first, callback)
        for left in range(rounds - 1, -1, -1):
            if solved.outcome not in (ConvexOutcome.CONVERGED, ConvexOutcome.ITERATION_LIMIT):
                break
            assert isinstance(program, PatternProgram)
            found = refine(program, solved.variables, solved.theta, int(self.n_patterns), rng)
            if found is None and solved.relative_gap <= settings.tolerance:
                break
            program, start = found or (program, solved.variables)
            again = first if left and found else settings
            solved = solve_admm(program, again, _offset_callback(callback, solved.iterations), start).after(solved)
        return program, solved

    def _program(self, objective: ConvexObjective, x: Array, box: Array, rng: np.random.Generator) -> Program:
        if self.program == "units":
            return UnitProgram.of(objective, x, draw_units(int(self.n_patterns), x.shape[1], rng))
        patterns = draw_patterns(x, int(self.n_patterns), rng)
        return PatternProgram(objective, x, patterns, PatternCones.of(x, patterns, box))

    def _scale_weights(self, sample_weight: ArrayLike | None, x: Array) -> Array:
        return preparation.scale_weights(self._check_weights(sample_weight, x))

    def _predict_raw(self, X: ArrayLike) -> Array:
        rows = np.ascontiguousarray(read_rows(self, X))
        return self.network_.raw(rows)


def _offset_callback(callback: Callback | None, iterations: int) -> Callback | None:
    """Return the callback for a round that begins after `iterations` iterations of earlier rounds."""
    if callback is None:
        return None
    return lambda progress: callback(replace(progress, iteration=progress.iteration + iterations))
