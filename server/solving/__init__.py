"""Solves on the server: grids and matrices kept in sessions, single solves and sequences of steps."""
