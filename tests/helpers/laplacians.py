"""Small sparse matrices that tests of the clients send."""

from scipy import sparse


def laplacian(n=60, dtype=float):
    """Return a definite tridiagonal matrix."""
    return sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(n, n), dtype=dtype)


def grid_matrix(n):
    """Return the sum of two such matrices along the axes of an `n × n` grid."""
    one = laplacian(n)
    return sparse.kron(one, sparse.eye_array(n)) + sparse.kron(sparse.eye_array(n), one)
