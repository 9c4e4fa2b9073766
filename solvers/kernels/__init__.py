"""Compiled kernels: their decorators, their cache on disk, and their division among threads."""
