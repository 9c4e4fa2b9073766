"""Which caller may make which call: identity by token or certificate, and the role that each method requires."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc

from relaxon.server.config.settings import ServerSettings, check_readable
from relaxon.server.gate import errors, tokens
from relaxon.server.gate.identity import ANYONE, Caller, Role

HEALTH = "/grpc.health.v1.Health/"
OURS = "/relaxon.v1."
OPERATIONS = "/google.longrunning.Operations/"
REFLECTION = "/grpc.reflection."
LOOKS = re.compile(r"(Get|List|Watch|Wait|Check|Download)")
CHANGES = re.compile(r"(Train|Truncate|Upload|Cancel|Delete)")
SESSIONS = re.compile(r"Delete\w*(Grid|Matrix|System|Session)")
"""Whoever may make one of these may delete it."""
UNNAMED = "certificate"
"""The name of a caller whose certificate has no common name."""


class Gate:
    """Decides who a call comes from, and whether it may be made."""

    def __init__(self, settings: ServerSettings) -> None:
        """Read the token file; OSError or ValueError if that is not possible."""
        if settings.token_file:
            check_readable("token_file", Path(settings.token_file))
        self._tokens = tokens.TokenFile(Path(settings.token_file)) if settings.token_file else None
        self._certificates = bool(settings.tls_client_ca)
        self._certificate_role = Role[settings.certificate_role.upper()]
        self._open_health = settings.open_health

    @property
    def asks(self) -> bool:
        """Whether callers have to identify themselves."""
        return self._tokens is not None or self._certificates

    def caller(self, context: grpc.aio.ServicerContext[Any, Any], method: str) -> Caller:
        """Return who makes the call.

        UNAUTHENTICATED if that is not known, with the same message whatever is wrong and whether or not the method
        exists.
        """
        if self._tokens is not None:
            found = self._tokens.caller(tokens.bearer(context.invocation_metadata() or ()))
            if found is not None:
                return found
            if self._open_health and method.startswith(HEALTH):
                return Caller("", Role.READ)
            # Always with the same message, which reveals nothing.
            raise errors.ServiceError(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed for this call")
        if self._certificates:
            # The handshake has verified the certificate.
            names = context.auth_context().get("x509_common_name", [])
            name = next(iter(names), b"").decode("utf-8", errors="replace")
            return Caller(name or UNNAMED, self._certificate_role)
        return ANYONE

    def admit(self, caller: Caller, method: str) -> None:
        """Raise PERMISSION_DENIED if the caller's role does not allow the method."""
        wanted = find_role(method)
        if not caller.may(wanted):
            message = f"this call needs the role {wanted.name.lower()}, got {caller.role.name.lower()}"
            raise errors.ServiceError(grpc.StatusCode.PERMISSION_DENIED, message)

    def refresh(self) -> None:
        """Read the token file again."""
        if self._tokens is not None:
            self._tokens.refresh(always=True)


def find_role(method: str) -> Role:
    """Return the least role that may call a method, given by its full name `/package.Service/Method`."""
    if method.startswith((HEALTH, REFLECTION)):
        return Role.READ
    if not method.startswith((OURS, OPERATIONS)):
        return Role.ADMIN
    name = method.rpartition("/")[2]
    if LOOKS.match(name):
        return Role.READ
    if SESSIONS.match(name):
        return Role.SOLVE
    return Role.TRAIN if CHANGES.match(name) else Role.SOLVE
