"""Krylov subspace methods on sparse matrices."""
