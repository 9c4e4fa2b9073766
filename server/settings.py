"""The server's settings: where it listens, how much it takes on, and how long it keeps things."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from relaxon.solvers import validation

DEFAULT_PORT = 50551


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """All limits are checked before anything is allocated for a request.

    Raises
    ------
    TypeError, ValueError : naming the setting; also where `host` is no loopback address and `insecure` is False.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0 takes a free one."""
    insecure: bool = False
    """Allow a host that others can reach, without encryption or authentication."""
    shared_memory: bool = True
    """Take arrays from callers on this machine through files in its shared memory, where they offer that."""
    workers: int = 1
    """Solves at the same time; each uses all threads, so more than one seldom pays."""
    max_pending: int = 64
    """Solves that wait, run or send their answer; each holds its arrays. One more is refused."""
    memory_bytes: int = 0
    """What kept grids and matrices, their set-ups and the running calls may take together, as it is estimated before
    they are made; 0 for half of the machine's memory."""
    max_client_bytes: int = 0
    """Of it, what one caller's may take; 0 for no less than all."""
    max_client_cells: int = 0
    """Cells of one caller's grids; 0 for no fewer than of all."""
    max_client_sessions: int = 0
    """One caller's grids and matrices; 0 for no fewer than of all."""
    max_attendances: int = 1024
    """Callers that say that they are there at the same time."""
    lease_seconds: float = 10.0
    """What was made under an attendance is dropped when that has been gone for so long."""
    max_cells: int = 2**27
    """Cells of one grid: 512³."""
    max_total_cells: int = 2**28
    """Cells of all kept grids."""
    max_grids: int = 64
    """Kept grids and matrices; the one that was idle for longest makes room for a new one."""
    max_solvers_per_grid: int = 4
    """Set-ups kept for one grid; the one not used for longest goes first."""
    grid_ttl_seconds: float = 3600.0
    """A grid is forgotten after so long without use."""
    model_folder: str = ""
    """Where trained models are stored; where empty, in a temporary folder that goes with the server."""
    max_models: int = 256
    """Stored models of one kind, those that are being trained included."""
    training_workers: int = 1
    """Training jobs at the same time, each in a process of its own."""
    max_jobs: int = 16
    """Training jobs that are uploaded, wait or run. One more is refused."""
    max_ended_jobs: int = 256
    """Ended jobs that are still told of; the one that ended first goes first. Its model stays."""
    max_table_bytes: int = 2**29
    """Bytes of one call's arrays for training or prediction, counted in float64."""
    max_units: int = 10_000
    """Units of a network that is trained."""
    idle_seconds: float = 60.0
    """An upload that is silent for so long is given up."""
    grace_seconds: float = 10.0
    """How long running calls may take to finish when the server is told to stop."""

    def __post_init__(self) -> None:
        if type(self.port) is not int or not 0 <= self.port <= 65535:
            raise ValueError(f"port must be an integer from 0 to 65535, got {self.port!r}")
        for name in (
            "workers",
            "max_pending",
            "max_cells",
            "max_total_cells",
            "max_attendances",
            "max_grids",
            "max_solvers_per_grid",
            "max_models",
            "training_workers",
            "max_jobs",
            "max_ended_jobs",
            "max_table_bytes",
            "max_units",
        ):
            validation.positive_int(name, getattr(self, name))
        for name in ("memory_bytes", "max_client_bytes", "max_client_cells", "max_client_sessions"):
            if validation.whole_number(name, getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        for name in ("grid_ttl_seconds", "idle_seconds"):
            validation.positive_float(name, getattr(self, name))
        for name in ("grace_seconds", "lease_seconds"):
            validation.non_negative_float(name, getattr(self, name))
        if not isinstance(self.model_folder, str):
            raise TypeError(f"model_folder must be a string, got {type(self.model_folder).__name__}")
        if not self.insecure and not is_loopback(self.host):
            raise ValueError(
                f"host must be a loopback address, got {self.host!r}: this server has no encryption and no "
                "authentication yet; pass insecure=True (--insecure) to let others reach it all the same"
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
