"""The server's settings: where it listens, how much it takes on, and how long it keeps things."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from relaxon.core import validation
from relaxon.solvers.interface.registry import list_solvers

DEFAULT_PORT = 50551
DEFAULT_DASHBOARD_PORT = 50552
MAX_PORT = 65535
FORMS = ("2D", "3D", "2D varying", "3D varying", "matrix")
"""What a solver is compiled for: grids, κ being 1 unless it varies, or sparse matrices."""


def check_flag(name: str, value: object) -> None:
    """Raise TypeError, naming the setting, unless it is True or False."""
    if type(value) is not bool:
        raise TypeError(f"{name} must be true or false, got {value!r}")


def check_text(name: str, value: object) -> None:
    """Raise TypeError, naming the setting, unless it is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")


def check_choice(*choices: str) -> Callable[[str, object], None]:
    """Return the check that a setting is one of the strings `choices`."""

    def check(name: str, value: object) -> None:
        check_text(name, value)
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

    return check


def check_kernels(name: str, value: object) -> None:
    """Raise TypeError or ValueError, naming the setting, unless it names solvers to compile."""
    check_text(name, value)
    compile_kinds(str(value))


def check_count(name: str, value: object) -> None:
    """Raise TypeError or ValueError, naming the setting, unless it is a whole number of at least 0."""
    if validation.whole_number(name, value) < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}")


def check_port(name: str, value: object) -> None:
    """Raise ValueError, naming the setting, unless it is the number of a port, or 0."""
    if type(value) is not int or not 0 <= value <= MAX_PORT:
        raise ValueError(f"{name} must be an integer from 0 to {MAX_PORT}, got {value!r}")


CHECKS: dict[type, Callable[[str, Any], object]] = {
    bool: check_flag,
    str: check_text,
    int: validation.positive_int,
    float: validation.positive_float,
}
"""The checks of settings without one of their own, by the types of their defaults."""


def setting(default: Any, help: str, check: Callable[[str, Any], object] | None = None) -> Any:
    """Return a setting's field, with its text in the command's help and the docs, and its own check."""
    return field(default=default, metadata={"help": help, "check": check})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of a server, each described in the table of docs/service.md.

    All limits are checked before anything is allocated for a request.

    Raises
    ------
    TypeError, ValueError : naming the setting; also where `host` is no loopback address and `insecure` is False.
    """

    host: str = setting(
        "127.0.0.1",
        "address to listen on; one that other machines reach needs TLS and tokens or certificates, or `insecure`",
    )
    port: int = setting(DEFAULT_PORT, "port to listen on; 0 takes a free one, which is printed", check_port)
    insecure: bool = setting(
        False, "allow an address that other machines reach without both encryption and authentication"
    )
    tls_certificate: str = setting(
        "",
        "PEM file of the certificate and its chain; calls are encrypted where it is given; it is read again "
        "when it changes",
    )
    tls_key: str = setting("", "PEM file of the certificate's key, without a password")
    tls_client_ca: str = setting(
        "", "PEM file of the authorities whose certificates callers must show; empty asks for none"
    )
    certificate_role: str = setting(
        "train",
        "role of callers who are known by their certificate alone: read, solve, train or admin",
        check_choice("read", "solve", "train", "admin"),
    )
    token_file: str = setting(
        "", "file of the tokens' hashes, made by `relaxon token add`; every call needs a token where it is given"
    )
    open_health: bool = setting(False, "answer health checks without a token")
    shared_memory: bool = setting(
        True, "take arrays from callers on this machine through shared memory, where they offer that"
    )
    compile: str = setting(
        "dcdm, auto matrix",
        "solvers that are compiled in the background at the start where this machine has not done so before, "
        'separated by commas, each for 3D grids with κ = 1 unless it says otherwise ("dcdm 2D", "dcdm 3D '
        'varying"), or for sparse matrices ("auto matrix"); empty compiles none, and their first solves wait',
        check_kernels,
    )
    workers: int = setting(1, "concurrent solves; each uses all threads, so more than one seldom pays")
    max_pending: int = setting(
        64,
        "solves that wait, run or send their answer, each of which holds its arrays; one more is refused, "
        "with a time to retry",
    )
    memory_bytes: int = setting(
        0,
        "memory for kept grids and matrices, their set-ups and running calls, as estimated before they are "
        "made; 0 for half of the machine's",
        check_count,
    )
    max_client_bytes: int = setting(0, "memory of that for one caller; 0 sets no limit of its own", check_count)
    max_client_cells: int = setting(0, "cells of one caller's grids; 0 sets no limit of its own", check_count)
    max_client_sessions: int = setting(0, "one caller's grids and matrices; 0 sets no limit of its own", check_count)
    max_client_jobs: int = setting(
        0, "one caller's training jobs that are uploaded, wait or run; 0 sets no limit of its own", check_count
    )
    max_attendances: int = setting(
        512, "callers that hold a call open to show that they are there; at most half of `max_calls`"
    )
    lease_seconds: float = setting(
        10.0, "time after which the grids of a caller that has gone are dropped", validation.non_negative_float
    )
    max_cells: int = setting(2**27, "cells of one grid; the default is 512³")
    max_total_cells: int = setting(2**28, "cells of all kept grids")
    max_grids: int = setting(64, "kept grids and matrices; the one that has been idle longest makes room for a new one")
    max_solvers_per_grid: int = setting(
        4, "solver set-ups kept for one grid; the one that has been idle longest goes first"
    )
    grid_ttl_seconds: float = setting(3600.0, "time without use after which a grid is dropped")
    model_folder: str = setting(
        "", "folder of trained models; empty for a temporary one that is removed with the server"
    )
    job_folder: str = setting(
        "", "folder of training jobs, with which the next server goes on; empty for one in `model_folder`"
    )
    checkpoint_seconds: float = setting(
        5.0, "work that a training job may lose when its process or the server is killed", validation.non_negative_float
    )
    max_attempts: int = setting(3, "processes that a job may lose in a row without a further step; then it has failed")
    max_models: int = setting(256, "stored models of one kind, including those in training")
    training_workers: int = setting(1, "concurrent training jobs, each in a process of its own")
    training_backend: str = setting(
        "local", "where jobs run: local processes, or a ray cluster (extra `ray`)", check_choice("local", "ray")
    )
    ray_address: str = setting(
        "auto", "address of the cluster, host:port; auto for the one that this machine belongs to"
    )
    ray_cpus: int = setting(1, "processors of the cluster that each training job reserves")
    max_jobs: int = setting(
        16, "training jobs that are uploaded, wait or run; one more is refused, with a time to retry"
    )
    max_ended_jobs: int = setting(256, "ended jobs that are remembered, the latest ones; their models stay")
    max_table_bytes: int = setting(2**29, "bytes of one call's arrays for training or prediction, counted in float64")
    max_units: int = setting(10_000, "units of a network that is trained")
    max_model_bytes: int = setting(2**28, "bytes of an uploaded model, all its files together")
    max_calls: int = setting(1024, "concurrent calls, including those that wait for news; one more is refused")
    reflection: bool = setting(True, "describe the services and their messages to callers")
    channelz: bool = setting(False, "show connections and sockets to admins (extra `metrics`)")
    metrics_port: int = setting(
        0, "port on which Prometheus finds metrics, on this machine only; 0 for none (extra `metrics`)", check_port
    )
    traces: bool = setting(
        False, "export OpenTelemetry traces of calls and solves to OTEL_EXPORTER_OTLP_ENDPOINT (extra `telemetry`)"
    )
    log_format: str = setting("text", "text, or json for one object a line", check_choice("text", "json"))
    log_level: str = setting("info", "debug, info, warning or error", check_choice("debug", "info", "warning", "error"))
    log_calls: bool = setting(False, "log a line for every call")
    dashboard: bool = setting(
        False, "serve a page that shows what the server does, to browsers on this machine (extra `dashboard`)"
    )
    dashboard_port: int = setting(
        DEFAULT_DASHBOARD_PORT, "port of that page; 0 takes a free one, which the log names", check_port
    )
    idle_seconds: float = setting(60.0, "time without data after which an upload is given up")
    grace_seconds: float = setting(
        10.0, "time that running calls have to finish once the server is told to stop", validation.non_negative_float
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            check = one.metadata["check"] or CHECKS[type(one.default)]
            check(one.name, getattr(self, one.name))
        if self.job_folder and not self.model_folder:
            raise ValueError(
                f"job_folder must be empty where model_folder is, got {self.job_folder!r}: the jobs' models would go "
                "with the server"
            )
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


def compile_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds of solves that the setting `compile` names, as the table of kernels calls them.

    Raises
    ------
    ValueError : for a solver or a form that does not exist.
    """
    names = {entry.name for entry in list_solvers()}
    kinds = []
    for one in (part.strip() for part in text.split(",")):
        solver, _, what = one.partition(" ")
        what = " ".join(what.split()) or "3D"
        if not one:
            continue
        if what not in FORMS or (what != "matrix" and solver not in names):
            raise ValueError(f"compile must name solvers such as 'dcdm', 'dcdm 2D' or 'auto matrix', got {one!r}")
        kinds.append(f"{solver} {what}")
    return tuple(dict.fromkeys(kinds))


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_readable(setting: str, path: Path) -> None:
    """Raise OSError, of the type that opening the file raised, naming the setting, the path and the reason."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise type(error)(f"{setting} must name a file that can be read, got {str(path)!r}: {error.strerror}") from None
