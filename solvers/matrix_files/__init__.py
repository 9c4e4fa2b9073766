"""Readers of the files in which simulation codes store matrices and right-hand sides."""

from relaxon.solvers.matrix_files.assembly import MatrixFile
from relaxon.solvers.matrix_files.contents import MatrixFileError
from relaxon.solvers.matrix_files.readers import load_matrix, read_matrix, read_vector

__all__ = ["MatrixFile", "MatrixFileError", "load_matrix", "read_matrix", "read_vector"]
