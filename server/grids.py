"""The grids that the server keeps between calls, and the solvers set up for each."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relaxon.proto.shared import SharedFile
from relaxon.server import errors, identity
from relaxon.server.settings import ServerSettings
from relaxon.solvers.driver import PreparedSolver, prepare
from relaxon.solvers.engine import Solver
from relaxon.solvers.grid import PoissonGrid


class KeptGrid:
    """A grid under an id, with the solvers set up for it."""

    def __init__(self, grid: PoissonGrid, max_solvers: int, shared: SharedFile | None = None) -> None:
        self.id = secrets.token_urlsafe(16)
        self.grid = grid
        self.shared = shared
        """Through which its caller, on this machine, hands arrays over."""
        self.owner = identity.current().name
        """The caller who had it made; to others it is not there."""
        self.users = 0
        """Calls that work on it; one that is in use is not made room of."""
        self.created = time.time()
        self.expires = 0.0
        self.running = threading.Lock()
        """Held by the worker thread that uses the grid's solvers: a set-up runs one right-hand side at a time."""
        self._prepared: OrderedDict[str, PreparedSolver] = OrderedDict()
        self._max_solvers = max_solvers

    def prepared(self, name: str, solver: Solver) -> tuple[PreparedSolver, float]:
        """The solver set up for this grid, and the seconds spent on that now. Call with `running` held."""
        if name in self._prepared:
            self._prepared.move_to_end(name)
            return self._prepared[name], 0.0
        # Room is made first, so that two large hierarchies need not fit at once.
        while len(self._prepared) >= self._max_solvers:
            self._prepared.popitem(last=False)
        ready = prepare(self.grid, solver=solver)
        self._prepared[name] = ready
        return ready, ready.setup_seconds

    def solver_names(self) -> list[str]:
        """The solvers that are set up for it."""
        return list(self._prepared)

    def array_bytes(self) -> int:
        """Bytes of its cells and of κ; what the solvers have set up is not counted."""
        kappa = self.grid.coefficient
        arrays = () if kappa is None else kappa if isinstance(kappa, tuple) else (kappa,)
        return self.grid.cells.nbytes + sum(array.nbytes for array in arrays)


class GridStore:
    """Kept grids, the longest unused first; used from the event loop's thread only."""

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._grids: OrderedDict[str, KeptGrid] = OrderedDict()
        self._reserved = 0

    def __len__(self) -> int:
        return len(self._grids)

    @property
    def cells(self) -> int:
        """Of all that are kept or are being uploaded."""
        return self._cells()

    def kept(self) -> list[KeptGrid]:
        """All kept grids, the longest unused first."""
        return list(self._grids.values())

    @contextmanager
    def reserve(self, cells: int) -> Iterator[None]:
        """Room for a grid of so many cells while it is uploaded and checked.

        Expired grids go, then those not in use, the longest unused first. RESOURCE_EXHAUSTED where that does
        not make enough.
        """
        settings = self._settings
        if cells > settings.max_cells:
            raise errors.exhausted("cells", f"cells must number at most {settings.max_cells} here, got {cells}")
        self.drop_expired()
        while self._cells() + cells > settings.max_total_cells or len(self._grids) >= settings.max_grids:
            idle = next((kept for kept in self._grids.values() if kept.users == 0), None)
            if idle is None:
                raise errors.exhausted(
                    "grids",
                    f"cells of all grids would be more than {settings.max_total_cells}, or the grids more than "
                    f"{settings.max_grids}, and all others are in use",
                    retry_seconds=1.0,
                )
            del self._grids[idle.id]
        self._reserved += cells
        try:
            yield
        finally:
            self._reserved -= cells

    def add(self, grid: PoissonGrid, shared: SharedFile | None = None) -> KeptGrid:
        """Keep a grid, from now for the time to live."""
        kept = KeptGrid(grid, self._settings.max_solvers_per_grid, shared)
        self._grids[kept.id] = kept
        self._touch(kept)
        return kept

    def find(self, grid_id: str) -> KeptGrid:
        """The grid of that id, used now; NOT_FOUND where it is not kept."""
        self.drop_expired()
        kept = self._grids.get(grid_id)
        if kept is None or not identity.current().sees(kept.owner):
            raise errors.grid_not_found(grid_id)
        self._touch(kept)
        return kept

    @contextmanager
    def use(self, grid_id: str) -> Iterator[KeptGrid]:
        """The grid of that id, which stays while the block runs."""
        kept = self.find(grid_id)
        kept.users += 1
        try:
            yield kept
        finally:
            kept.users -= 1
            self._touch(kept)

    def remove(self, grid_id: str) -> None:
        """Forget a grid; NOT_FOUND where it is not kept."""
        del self._grids[self.find(grid_id).id]

    def drop_expired(self) -> None:
        """Forget the grids that nobody uses or has used for the time to live."""
        now = self._clock()
        for kept in [kept for kept in self._grids.values() if kept.users == 0 and kept.expires <= now]:
            del self._grids[kept.id]

    def _touch(self, kept: KeptGrid) -> None:
        kept.expires = self._clock() + self._settings.grid_ttl_seconds
        if kept.id in self._grids:
            self._grids.move_to_end(kept.id)

    def _cells(self) -> int:
        return self._reserved + sum(kept.grid.cells.size for kept in self._grids.values())
