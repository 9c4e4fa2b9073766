"""Compilation of kernels before the first solve: the table of kernels, and the two processes that compile them."""
