"""Compilation of kernels ahead of the first solve: the table of kernels, and the two processes that compile it."""
