"""The server's settings: where it listens, how much it takes on, and how long it keeps things."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from relaxon.core import validation
from relaxon.solvers.interface.registry import list_solvers

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
    """Allow a host that others can reach without both encryption and authentication."""
    tls_certificate: str = ""
    """PEM file of the certificate and its chain; calls are encrypted where it is given. Read again when it changes."""
    tls_key: str = ""
    """PEM file of the certificate's key, without a password."""
    tls_client_ca: str = ""
    """PEM file of the authorities whose certificates callers must show; none are asked for where empty."""
    certificate_role: str = "train"
    """The role of those who are known by their certificate alone: read, solve, train or admin."""
    token_file: str = ""
    """File of the tokens' hashes, made by `relaxon token add`; every call needs a token where it is given."""
    open_health: bool = False
    """Answer health checks without a token."""
    shared_memory: bool = True
    """Take arrays from callers on this machine through files in its shared memory, where they offer that."""
    compile: str = "dcdm, auto matrix"
    """Solvers that are compiled in the background at the start, where this machine has not done so before: names with
    commas between, on three-dimensional grids with κ = 1 where nothing else is said ("dcdm 2D", "dcdm 3D varying"), or
    for sparse matrices ("auto matrix"). Empty for none: their first solves wait for it."""
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
    max_client_jobs: int = 0
    """One caller's training jobs that are uploaded, wait or run; 0 for no fewer than of all."""
    max_attendances: int = 512
    """Callers that say that they are there at the same time; never more than half of `max_calls`."""
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
    job_folder: str = ""
    """Where training jobs are kept, so that the next server goes on with them; where empty, in `model_folder`."""
    checkpoint_seconds: float = 5.0
    """Work that a training job may lose where its process or the server is killed."""
    max_attempts: int = 3
    """Processes that a job may lose in a row without a step further; then it has failed."""
    max_models: int = 256
    """Stored models of one kind, those that are being trained included."""
    training_workers: int = 1
    """Training jobs at the same time, each in a process of its own."""
    training_backend: str = "local"
    """Where they are worked on: "local" processes, or a "ray" cluster (needs the package's extra `ray`)."""
    ray_address: str = "auto"
    """The cluster's: host:port, or "auto" for the one that this machine belongs to."""
    ray_cpus: int = 1
    """Processors of the cluster that a training job has for itself."""
    max_jobs: int = 16
    """Training jobs that are uploaded, wait or run. One more is refused."""
    max_ended_jobs: int = 256
    """Ended jobs that are still told of; the one that ended first goes first. Its model stays."""
    max_table_bytes: int = 2**29
    """Bytes of one call's arrays for training or prediction, counted in float64."""
    max_units: int = 10_000
    """Units of a network that is trained."""
    max_model_bytes: int = 2**28
    """Bytes of a model that is uploaded, all its files together."""
    max_calls: int = 1024
    """Calls at the same time, those that wait for news included; one more is refused."""
    reflection: bool = True
    """Tell callers of the services and their messages."""
    channelz: bool = False
    """Tell admins of connections and sockets (needs the package's extra `metrics`)."""
    metrics_port: int = 0
    """Where Prometheus finds figures, on this machine only; 0 for nowhere (needs the extra `metrics`)."""
    traces: bool = False
    """Send traces of calls and solves to where OTEL_EXPORTER_OTLP_ENDPOINT says (needs the extra `telemetry`)."""
    log_format: str = "text"
    """"text", or "json": an object a line."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_calls: bool = False
    """A line in the log for every call."""
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
            "max_attendances",
            "max_grids",
            "max_solvers_per_grid",
            "max_models",
            "training_workers",
            "ray_cpus",
            "max_attempts",
            "max_jobs",
            "max_ended_jobs",
            "max_table_bytes",
            "max_units",
            "max_model_bytes",
            "max_calls",
        ):
            validation.positive_int(name, getattr(self, name))
        for name in (
            "memory_bytes",
            "max_client_bytes",
            "max_client_cells",
            "max_client_sessions",
            "max_client_jobs",
        ):
            if validation.whole_number(name, getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        if type(self.dashboard_port) is not int or not 0 <= self.dashboard_port <= 65535:
            raise ValueError(f"dashboard_port must be an integer from 0 to 65535, got {self.dashboard_port!r}")
        for name in ("grid_ttl_seconds", "idle_seconds"):
            validation.positive_float(name, getattr(self, name))
        for name in ("checkpoint_seconds", "grace_seconds", "lease_seconds"):
            validation.non_negative_float(name, getattr(self, name))
        for name in TEXTS:
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string, got {type(getattr(self, name)).__name__}")
        if self.job_folder and not self.model_folder:
            raise ValueError(
                f"job_folder must be empty where model_folder is, got {self.job_folder!r}: the jobs' models would go "
                "with the server"
            )
        for name in FLAGS:
            if type(getattr(self, name)) is not bool:
                raise TypeError(f"{name} must be true or false, got {getattr(self, name)!r}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        compile_kinds(self.compile)
        if type(self.metrics_port) is not int or not 0 <= self.metrics_port <= 65535:
            raise ValueError(f"metrics_port must be an integer from 0 to 65535, got {self.metrics_port!r}")
        self._check_security()

    @property
    def encrypted(self) -> bool:
        """Whether calls come over TLS."""
        return bool(self.tls_certificate)

    @property
    def authenticated(self) -> bool:
        """Whether callers have to say who they are."""
        return bool(self.token_file or self.tls_client_ca)

    def _check_security(self) -> None:
        if bool(self.tls_certificate) != bool(self.tls_key):
            given, missing = ("tls_certificate", "tls_key") if self.tls_certificate else ("tls_key", "tls_certificate")
            raise ValueError(f"{missing} must be given with {given}")
        if self.tls_client_ca and not self.encrypted:
            raise ValueError("tls_client_ca must come with tls_certificate and tls_key")
        if self.open_health and not self.token_file:
            raise ValueError("open_health must come with token_file: health is open to all without it")
        if is_loopback(self.host):
            return
        if self.token_file and not self.encrypted:
            raise ValueError(
                f"token_file must come with tls_certificate and tls_key on {self.host!r}: tokens would travel in clear"
            )
        if not self.insecure and not (self.encrypted and self.authenticated):
            raise ValueError(
                f"host must be a loopback address, got {self.host!r}: others are served with encryption "
                "(tls_certificate, tls_key) and authentication (token_file or tls_client_ca); pass insecure=True "
                "(--insecure) to do without"
            )


TEXTS = (
    "host",
    "model_folder",
    "job_folder",
    "tls_certificate",
    "tls_key",
    "tls_client_ca",
    "certificate_role",
    "token_file",
    "log_format",
    "log_level",
    "training_backend",
    "ray_address",
    "compile",
)
FLAGS = ("insecure", "open_health", "shared_memory", "reflection", "channelz", "traces", "log_calls", "dashboard")
KINDS = ("2D", "3D", "2D varying", "3D varying", "matrix")
CHOICES = {
    "certificate_role": ("read", "solve", "train", "admin"),
    "log_format": ("text", "json"),
    "training_backend": ("local", "ray"),
    "log_level": ("debug", "info", "warning", "error"),
}


def compile_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds of solves that the setting `compile` names, as the table of kernels calls them.

    Raises
    ------
    ValueError : for a kind that there is none of.
    """
    names = {entry.name for entry in list_solvers()}
    kinds = []
    for one in (part.strip() for part in text.split(",")):
        solver, _, what = one.partition(" ")
        what = " ".join(what.split()) or "3D"
        if not one:
            continue
        if what not in KINDS or (what != "matrix" and solver not in names):
            raise ValueError(f"compile must name solvers such as 'dcdm', 'dcdm 2D' or 'auto matrix', got {one!r}")
        kinds.append(f"{solver} {what}")
    return tuple(dict.fromkeys(kinds))


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
