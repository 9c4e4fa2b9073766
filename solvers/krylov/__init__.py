"""Conjugate gradients on a grid's operator: plain, and with diagonal or incomplete Cholesky preconditioning."""
