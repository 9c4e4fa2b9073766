"""Reading of netlists, and their operating point by Newton's method with the sparse direct solver.

Every source of such a netlist lies between a node and ground. Its equation gives the node's voltage, so the current
through it need not be an unknown: the unknowns are the nodes' voltages.
"""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers import Result, solve

GROUND = "0"
IGNORED = (".op", ".end", ".options")
SMALLEST_STEP = 2.0**-20
"""The shortest step of the line search."""
NEWTON_RTOL = 1e-8
"""Relative residual of a linear system: Newton's next step corrects what remains."""

Array = NDArray[np.float64]
Slopes = dict[str, float]


@dataclass(frozen=True, slots=True)
class Source:
    """A source from a node to ground, whose voltage is an expression in the voltages of other nodes."""

    node: str
    expression: ast.expr


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit of resistors `(node, node, ohms)` and sources."""

    resistors: tuple[tuple[str, str, float], ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The operating point of a circuit.

    `residual` is the largest error of a node's equation in volts; for Kirchhoff's current law, the error of the current
    divided by the conductance at the node.
    """

    voltages: Mapping[str, float]
    residual: float
    iterations: int
    converged: bool


def read_netlist(path: Path | str) -> Circuit:
    """Read a netlist of resistors (R), sources to ground (V, E) and behavioural sources (B ... V=...).

    ValueError naming the line for any other card.
    """
    resistors, sources = [], list[Source]()
    for number, line in _join_lines(Path(path).read_text(encoding="ascii")):
        words = line.split()
        kind = words[0][0].upper()
        try:
            if kind == "R" and len(words) == 4:
                resistors.append((words[1], words[2], validation.positive_float("resistance", float(words[3]))))
            elif kind in "VBE" and len(words) >= 4 and words[2] == GROUND:
                sources.append(_parse_source(kind, words))
            else:
                raise ValueError("unknown kind of card")
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"line {number} of {path} must be a resistor or a source to ground: {error}") from None
    nodes = [source.node for source in sources]
    if len(set(nodes)) != len(nodes):
        raise ValueError(
            f"{path} must have at most one source for each node, got two at {max(nodes, key=nodes.count)!r}"
        )
    return Circuit(tuple(resistors), tuple(sources))


def _join_lines(text: str) -> list[tuple[int, str]]:
    """Return the cards, each with the number of its first line.

    A line that begins with `+` continues the card before it; the first line is a title.
    """
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if number == 1 or not line.strip() or line.startswith(("*", *IGNORED)):
            continue
        if line.startswith("+") and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line[1:]}")
        else:
            found.append((number, line))
    return found


def _parse_source(kind: str, words: list[str]) -> Source:
    if kind == "V" and words[3].upper() == "DC" and len(words) == 5:
        text = words[4]
    elif kind == "E" and words[4] == GROUND and len(words) == 6:
        text = f"({words[5]})*V({words[3]})"
    elif kind == "B" and " ".join(words[3:]).upper().startswith("V="):
        text = " ".join(words[3:])[2:]
    else:
        raise ValueError("unknown kind of source")
    return Source(words[1], ast.parse(text.strip(), mode="eval").body)


def operating_point(circuit: Circuit, *, tolerance: float = 1e-10, iterations: int = 100) -> OperatingPoint:
    """Find the voltages at which every node's equation holds to `tolerance` volts, by Newton's method.

    The sparse direct solver solves the linear systems; a step that does not reduce the residual is halved. Where the
    iteration does not converge, or a system is singular, the result says so.
    """
    validation.positive_float("tolerance", tolerance)
    validation.positive_int("iterations", iterations)
    names = sorted({name for a, b, _ in circuit.resistors for name in (a, b)} | {s.node for s in circuit.sources})
    places = {name: place for place, name in enumerate(name for name in names if name != GROUND)}
    linear = _Conductances(circuit, places)
    volts = np.zeros(len(places))
    residual, matrix = linear.equations(volts)
    taken = 0
    while taken < iterations and not np.abs(residual).max() <= tolerance:
        newton = solve(matrix, -residual, solver="direct", rtol=NEWTON_RTOL, inconsistent="report")
        if newton.result is not Result.CONVERGED:
            break
        step, share = newton.x, 1.0
        while True:
            tried = volts + share * step
            after, slopes = linear.equations(tried)
            if np.abs(after).max() < np.abs(residual).max() or share < SMALLEST_STEP:
                break
            share /= 2
        volts, residual, matrix = tried, after, slopes
        taken += 1
    worst = float(np.abs(residual).max())
    voltages = {name: float(volts[place]) for name, place in places.items()}
    return OperatingPoint(voltages, worst, taken, worst <= tolerance)


class _Conductances:
    """The equations of a circuit: that of the source at a node with a source, Kirchhoff's current law at the others."""

    def __init__(self, circuit: Circuit, places: Mapping[str, int]) -> None:
        import scipy.sparse as sp

        self.circuit, self.places = circuit, places
        count = len(places)
        driven = np.zeros(count, bool)
        driven[[places[source.node] for source in circuit.sources]] = True
        rows, columns, values = list[int](), list[int](), list[float]()
        for a, b, ohms in circuit.resistors:
            for here, there in ((a, b), (b, a)):
                if here == GROUND or driven[places[here]]:
                    continue
                rows.append(places[here])
                columns.append(places[here])
                values.append(1 / ohms)
                if there != GROUND:
                    rows.append(places[here])
                    columns.append(places[there])
                    values.append(-1 / ohms)
        matrix = sp.csr_matrix((values, (rows, columns)), (count, count))
        at = matrix.diagonal()
        if (at[~driven] == 0).any():
            lonely = [name for name, place in places.items() if not driven[place] and at[place] == 0]
            raise ValueError(f"circuit must have a resistor or a source at every node, got none at {lonely[0]!r}")
        # Each row is in volts: currents divided by the node's total conductance.
        self.matrix = sp.diags(1 / np.where(driven, 1.0, at)) @ matrix

    def equations(self, volts: Array) -> tuple[Array, Any]:
        """Return the error of every node's equation in volts, and its derivative as a sparse matrix."""
        import scipy.sparse as sp

        residual = self.matrix @ volts
        rows, columns, values = list[int](), list[int](), list[float]()
        for source in self.circuit.sources:
            place = self.places[source.node]
            value, slopes = _evaluate(source.expression, volts, self.places)
            residual[place] = volts[place] - value
            rows += [place] * (1 + len(slopes))
            columns += [place, *(self.places[name] for name in slopes)]
            values += [1.0, *(-slope for slope in slopes.values())]
        extra = sp.csr_matrix((values, (rows, columns)), self.matrix.shape)
        return residual, sp.csr_matrix(self.matrix + extra)


def _evaluate(node: ast.expr, volts: Array, places: Mapping[str, int]) -> tuple[float, Slopes]:
    """Return an expression's value and its derivative by each voltage; ValueError for an unknown expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value), {}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value, slopes = _evaluate(node.operand, volts, places)
        return (value, slopes) if isinstance(node.op, ast.UAdd) else (-value, _scale(slopes, -1.0))
    if isinstance(node, ast.BinOp):
        return _combine(node.op, _evaluate(node.left, volts, places), _evaluate(node.right, volts, places))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id.upper() == "V" and len(node.args) == 1:
            name = ast.unparse(node.args[0])
            if name not in places:
                raise ValueError(f"a source must depend on nodes of the circuit, got V({name})")
            return float(volts[places[name]]), {name: 1.0}
        return _apply(node.func.id, [_evaluate(argument, volts, places) for argument in node.args])
    raise ValueError(f"a source's expression must consist of numbers, V(node) and + - * /, got {ast.unparse(node)}")


def _combine(operator: ast.operator, left: tuple[float, Slopes], right: tuple[float, Slopes]) -> tuple[float, Slopes]:
    (a, da), (b, db) = left, right
    if isinstance(operator, ast.Add):
        return a + b, _add(da, db)
    if isinstance(operator, ast.Sub):
        return a - b, _add(da, _scale(db, -1.0))
    if isinstance(operator, ast.Mult):
        return a * b, _add(_scale(da, b), _scale(db, a))
    if isinstance(operator, ast.Div):
        return a / b, _add(_scale(da, 1 / b), _scale(db, -a / b**2))
    raise ValueError(f"a source's operators must be + - * /, got {type(operator).__name__}")


def _apply(name: str, arguments: list[tuple[float, Slopes]]) -> tuple[float, Slopes]:
    if name in ("min", "max") and len(arguments) == 2:
        chosen = min if name == "min" else max
        return chosen(arguments, key=lambda pair: pair[0])
    if name in ("exp", "tanh") and len(arguments) == 1:
        ((value, slopes),) = arguments
        if name == "tanh":
            image = math.tanh(value)
            return image, _scale(slopes, 1 - image**2)
        image = math.exp(min(value, LARGEST_EXPONENT))
        return image, _scale(slopes, image if value <= LARGEST_EXPONENT else 0.0)
    raise ValueError(f"a source's functions must be exp, tanh, min or max, got {name}")


LARGEST_EXPONENT = 300.0
"""Largest exponent, above which exp(v)² would overflow."""


def _scale(slopes: Slopes, factor: float) -> Slopes:
    return {name: factor * slope for name, slope in slopes.items()}


def _add(one: Slopes, other: Slopes) -> Slopes:
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in one.keys() | other.keys()}
