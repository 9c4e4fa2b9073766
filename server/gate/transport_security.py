"""TLS of the server: its certificate and key, read again when their files change, and the callers' authority."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import grpc

from relaxon.server.config.settings import ServerSettings, check_readable

logger = logging.getLogger("relaxon.server")
Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """The files of a server's TLS settings, as gRPC takes them."""

    def __init__(self, settings: ServerSettings) -> None:
        """Read the files; OSError if one cannot be read, ValueError if it is not PEM."""
        names = ["tls_certificate", "tls_key", *(["tls_client_ca"] if settings.tls_client_ca else [])]
        self._files = [Path(getattr(settings, name)) for name in names]
        for name, path in zip(names, self._files, strict=True):
            check_readable(name, path)
        self._mutual = bool(settings.tls_client_ca)
        self._guard = threading.Lock()
        self._stamp = self._stamps()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for `add_secure_port`; new connections use the newest content of the files."""
        # The fetcher may return None, for no change, which gRPC's stub does not allow.
        return grpc.dynamic_ssl_server_credentials(self._first, self._newest, self._mutual)  # type: ignore[arg-type]

    def _newest(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a changed configuration, before each handshake; None if nothing usable has changed."""
        with self._guard:
            try:
                stamp = self._stamps()
                if stamp == self._stamp:
                    return None
                self._stamp = stamp
                read = self._read()
            except (OSError, ValueError) as error:
                logger.error("the TLS certificate read last stays in use: %s", error)
                return None
            logger.info("read the TLS certificate again from %s", self._files[0])
            return read

    def _stamps(self) -> Stamp:
        return tuple((found.st_ino, found.st_mtime_ns, found.st_size) for found in map(Path.stat, self._files))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *authority = (_pem(path) for path in self._files)
        _check_pair(self._files[0], self._files[1])
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority[0] if authority else None)


def _pem(path: Path) -> bytes:
    content = path.read_bytes()
    if b"-----BEGIN " not in content:
        raise ValueError(f"{str(path)!r} must be a PEM file")
    return content


def _check_pair(certificate: Path, key: Path) -> None:
    """Raise ValueError if the key does not belong to the certificate: gRPC would only fail at each handshake."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise ValueError(f"tls_key {str(key)!r} must be the key of {str(certificate)!r}: {error}") from None


def _no_password() -> str:
    raise ValueError("tls_key must not be protected by a password")
