"""A sparse matrix as a checked system: its properties, kind and null vectors, and the passes over its rows."""
