"""Preconditioners of Krylov methods for matrices of any kind."""
