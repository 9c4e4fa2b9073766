"""What every call passes before its handler: identity, access, TLS, request ids, limits, and errors as status codes."""
