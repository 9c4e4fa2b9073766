"""What `relaxon solve --matrix FILE` says of the structure of the matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from relaxon.cli.matrix_system import FileMatrixSystem

if TYPE_CHECKING:
    from rich.console import Console

KINDS = {
    "spd": "symmetric, positive definite as far as diagonal and signs can tell",
    "negative-definite": "symmetric with a negative diagonal: --negate solves −A x = −b",
    "symmetric-indefinite": "symmetric and indefinite: its diagonal is not positive throughout",
    "hermitian": "complex and Hermitian",
    "complex-symmetric": "complex and symmetric, not Hermitian",
    "nonsymmetric": "not symmetric",
}


def print_structure(console: Console, system: FileMatrixSystem) -> None:
    """Print the properties of the matrix, one a line."""
    console.print(system.describe(), style="bold", markup=False)
    for name, value in describe_structure(system):
        console.print(f"  {name:<17}{value}", markup=False, soft_wrap=True)
    console.print()


def describe_structure(system: FileMatrixSystem) -> Iterator[tuple[str, str]]:
    """Yield the properties of a system and what was found of each."""
    found = system.structure
    n = found.unknowns
    yield "format", system.layout
    for note in system.notes:
        yield "note", note
    word = "yes" if found.symmetric else "Hermitian" if found.complex_values and found.hermitian else "no"
    least = min(found.asymmetry, found.hermitian_asymmetry)
    pattern = "symmetric" if found.pattern_symmetric else "not symmetric"
    yield "symmetric", f"{word}: entries to {least:.1e} of their rows' largest, pattern {pattern}"
    zero = n - found.positive_diagonal - found.negative_diagonal
    parts = [
        f"{count:,} {name}"
        for count, name in (
            (found.positive_diagonal, "positive"),
            (found.negative_diagonal, "negative"),
            (zero, "zero"),
        )
        if count
    ]
    yield "diagonal", f"{', '.join(parts)}; sizes {found.smallest_diagonal:.2e} to {found.largest_diagonal:.2e}"
    off = found.negative_off + found.positive_off
    yield (
        "off the diagonal",
        f"{found.negative_off / off:.1%} negative, {found.positive_off / off:.1%} positive" if off else "no entries",
    )
    filled = n - found.empty_rows
    dominance = "all" if found.dominant_rows == filled else f"{found.dominant_rows:,} of {filled:,}"
    yield (
        "dominance",
        f"{dominance} rows dominated by their diagonal; least |a_ii| / Σ|a_ij| {found.least_dominance:.3g}",
    )
    empty = f", {found.empty_rows:,} empty rows" if found.empty_rows else ""
    yield "graph", f"{found.parts:,} connected part{'s' * (found.parts != 1)}, bandwidth {found.bandwidth:,}{empty}"
    null = found.constant_null_vectors
    constants = f"constants on {null:,} of the parts, whose rows sum to zero" if null else "no constants"
    yield "null space", f"{constants}; others are not searched for"
    yield "kind", KINDS[found.kind]
    yield "right-hand side", system.side
