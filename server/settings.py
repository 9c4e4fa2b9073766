"""The server's settings under their documented name; `relaxon.server.config.settings` defines them."""

from relaxon.server.config.settings import ServerSettings

__all__ = ["ServerSettings"]
