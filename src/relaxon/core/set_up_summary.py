"""Summary of what a solver has set up for a matrix: its levels, their sizes and complexities. It can be printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LevelSize:
    """The size of a level's matrix: its rows and its stored entries."""

    rows: int
    nonzeros: int


@dataclass(frozen=True, slots=True)
class SetUpSummary:
    """A set-up for one matrix, from `prepared.summary()` or from a server's `describe()`."""

    solver: str
    """The name of the solver."""
    unknowns: int
    nonzeros: int
    """Stored entries of the matrix."""
    levels: tuple[LevelSize, ...]
    """From fine to coarse; empty if the method has no levels."""
    setup_seconds: float
    """Seconds of the set-up, or of its last update."""
    updates: int = 0
    """How often the values have been updated since the first set-up."""
    reason: str = ""
    """Why this method was chosen; empty if the caller chose it."""

    @property
    def grid_complexity(self) -> float:
        """The rows of all levels divided by those of the first; 0 without levels."""
        return _over_first([level.rows for level in self.levels])

    @property
    def operator_complexity(self) -> float:
        """The entries of all levels divided by those of the first; 0 without levels."""
        return _over_first([level.nonzeros for level in self.levels])

    def __str__(self) -> str:
        updated = f", values updated {self.updates} times" if self.updates else ""
        lines = [f"{self.solver}: {self.unknowns:,} unknowns, {self.nonzeros:,} nonzeros, {self._levels()}{updated}"]
        if self.reason:
            lines.append(self.reason)
        if self.levels:
            lines.append(f"{'level':>5} {'rows':>12} {'nonzeros':>14} {'a row':>7}")
            lines += [
                f"{number:>5} {level.rows:>12,} {level.nonzeros:>14,} {level.nonzeros / max(1, level.rows):>7.1f}"
                for number, level in enumerate(self.levels)
            ]
            lines.append(
                f"grid complexity {self.grid_complexity:.2f}, operator complexity {self.operator_complexity:.2f}"
            )
        return "\n".join(lines)

    def _levels(self) -> str:
        count = len(self.levels)
        return "no levels" if not count else f"{count} level{'s' if count > 1 else ''}"


def _over_first(counts: list[int]) -> float:
    return sum(counts) / max(1, counts[0]) if counts else 0.0
