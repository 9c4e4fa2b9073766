"""The server's settings: where it listens, how much it takes on, and how long it keeps things."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from relaxon.solvers import validation

DEFAULT_PORT = 50551
DEFAULT_DASHBOARD_PORT = 50552


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
    max_pending: int = 8
    """Solves that wait, run or send their answer; each holds its arrays. One more is refused."""
    max_cells: int = 2**27
    """Cells of one grid: 512³."""
    max_total_cells: int = 2**28
    """Cells of all kept grids."""
    max_grids: int = 64
    """Kept grids; the one that was idle for longest makes room for a new one."""
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
    dashboard: bool = False
    """Show a page on what the server does to browsers on this machine (needs the package's extra `dashboard`)."""
    dashboard_port: int = DEFAULT_DASHBOARD_PORT
    """Where that page is; 0 takes a free one, which the log names."""
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
        if type(self.dashboard_port) is not int or not 0 <= self.dashboard_port <= 65535:
            raise ValueError(f"dashboard_port must be an integer from 0 to 65535, got {self.dashboard_port!r}")
        for name in ("grid_ttl_seconds", "idle_seconds"):
            validation.positive_float(name, getattr(self, name))
        validation.non_negative_float("grace_seconds", self.grace_seconds)
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
