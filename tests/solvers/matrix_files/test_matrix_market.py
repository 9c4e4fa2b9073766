"""Matrix Market files, gzip, and half a symmetric matrix: read as written, or refused where they are wrong."""

import gzip

import numpy as np
import pytest
from scipy import io, sparse

from relaxon.solvers import MatrixFileError, read_matrix, read_vector
from relaxon.solvers.matrix_files import load_matrix

BANNER = "%%MatrixMarket matrix coordinate real general\n"
EXACT = np.array([[4.0, -1.25, 0.0], [-1.25, 3.0, 0.5], [0.0, 0.5, 5.0]])
HALF = np.triu(EXACT)


@pytest.fixture
def write(tmp_path):
    def put(content, name="file", packed=False):
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if packed else data)
        return path

    return put


def random_matrix(rows=40, columns=40, kind=float):
    matrix = sparse.random_array((rows, columns), density=0.1, rng=np.random.default_rng(1), format="csr")
    return matrix + 1j * matrix.sqrt() if kind is complex else matrix


# --- Matrix Market ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symmetry", "kind"),
    [
        *((symmetry, kind) for symmetry in ("general", "symmetric", "skew-symmetric") for kind in (float, complex)),
        ("hermitian", complex),
    ],
)
@pytest.mark.parametrize("dense", [False, True])
def test_what_scipy_writes_as_matrix_market_is_read_as_it_was(tmp_path, symmetry, kind, dense):
    matrix = random_matrix(kind=kind)
    other = {"symmetric": matrix.T, "skew-symmetric": -matrix.T, "hermitian": matrix.T.conj()}
    matrix = matrix + other[symmetry] if symmetry != "general" else matrix
    path = tmp_path / "matrix.mtx"
    io.mmwrite(path, matrix.toarray() if dense else matrix, symmetry=symmetry)
    assert np.array_equal(read_matrix(path).toarray(), matrix.toarray())


def test_patterns_integers_comments_blank_lines_and_case_are_read(write):
    text = "%%matrixmarket MATRIX Coordinate Pattern Symmetric\n% said\n\n%\n 2 2 2 \n\n1 1\r\n2\t1\n"
    assert read_matrix(write(text)).toarray().tolist() == [[1, 1], [1, 0]]
    text = "%%MatrixMarket matrix coordinate integer general\n2 2 2\n1 1 -3\n2 2 7"
    assert read_matrix(write(text)).toarray().tolist() == [[-3, 0], [0, 7]]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2.5D+03", 2500.0),
        ("2.5d3", 2500.0),
        ("-2.5+300", -2.5e300),
        ("2.5-300", 2.5e-300),
        ("+.5E-02", 0.005),
        ("1Q2", 100.0),
        ("-7", -7.0),
    ],
)
def test_fortran_s_exponents_are_read_right(write, written, value):
    assert read_matrix(write(f"{BANNER}1 1 1\n1 1 {written}\n"))[0, 0] == value
    vector = write(f"%%MatrixMarket matrix array real general\n2 1\n{written}\n1\n")
    assert read_vector(vector).tolist() == [value, 1.0]


def test_duplicates_are_summed_and_said(write):
    read = load_matrix(write(f"{BANNER}2 2 4\n1 1 1\n1 1 2\n2 2 5\n2 1 1\n"), symmetric_half=False)
    assert read.matrix.toarray().tolist() == [[3, 0], [1, 5]]
    assert read.notes == ("1 duplicates among 4 stored entries were added to others of the same place",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("%%MatrixMarket matrix coordinate real\n", "line 1: expected '%%MatrixMarket matrix FORMAT"),
        ("%%MatrixMarket matrix coordinate quaternion general\n", "line 1: field must be one of real"),
        (f"{BANNER}% only\n", "expected a line of sizes, got the end"),
        (f"{BANNER}2 2\n", "line 2: expected 3 sizes, got '2 2'"),
        (f"{BANNER}2 2 2\n1 1 1.5\n", "2 entries are announced, the file ends after 1"),
        (f"{BANNER}2 2 1\n1 1 1.5\n\n2 2 1\n", "line 5: expected the end after 1 entries"),
        (f"{BANNER}2 2 2\n1 1 1.5\n2 2\n", "line 4: expected 3 numbers, got 2: '2 2'"),
        (f"{BANNER}2 2 2\n1 1 1.5 7\n2 2\n", "line 3: expected 3 numbers, got 4"),
        (f"{BANNER}2 2 2\n1 1 1.5\n2 2 0x10\n", "line 4: expected a number, got '0x10'"),
        (f"{BANNER}2 2 2\n1 1 1.5\n2 2 1.5.5\n", "line 4: expected a number, got '1.5.5'"),
        (f"{BANNER}2 2 2\n1 1 1e400\n2 2 1\n", "line 3: expected a number that float64 holds, got '1e400'"),
        (f"{BANNER}2 2 2\n1 1 nan\n2 2 1\n", "line 3: expected a number, got 'nan'"),
        (f"{BANNER}2 2 2\n1 1 1\n3 2 1\n", "entry 2: expected a row from 1 to 2, got 3"),
        (f"{BANNER}2 2 2\n1 1 1\n1 0 1\n", "entry 2: expected a column from 1 to 2, got 0"),
        (f"{BANNER}2 2 2\n1 1.5 1\n1 1 1\n", "entry 1 from line 3 on: indices must be whole"),
        ("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 3.5\n", "must hold whole numbers, got 3.5"),
        (f"{BANNER}9 9 999999999999\n1 1 1\n", "999999999999 entries are announced, which take at least"),
        (f"{BANNER}99999999999 9 1\n1 1 1\n", "a shape of 99999999999 by 9 is announced"),
        ("%%MatrixMarket matrix array real general\n300000 300000\n1\n", "90000000000 entries are announced"),
        (
            "%%MatrixMarket matrix coordinate real symmetric\n2 2 4\n1 1 2\n2 1 -1\n1 2 -1\n2 2 2\n",
            "entry 3: a symmetric file must hold one triangle alone",
        ),
        ("", "the file is empty"),
        (b"\x89HDF\r\n\0\0\0", "got other binary data"),
    ],
)
def test_a_wrong_file_is_refused_where_it_is_wrong(write, content, words):
    path = write(content)
    with pytest.raises(MatrixFileError) as raised:
        read_matrix(path)
    assert str(raised.value).startswith(str(path))
    assert words in str(raised.value)


def test_blocks_join_without_a_seam_and_lines_are_counted_across_them(write, monkeypatch):
    from relaxon.solvers.matrix_files import number_text

    matrix = random_matrix(200, 200)
    text = f"{BANNER}200 200 {matrix.nnz}\n" + "".join(
        f"{i + 1} {j + 1} {value!r}\n"
        for i, j, value in zip(*sparse.find(matrix)[:2], map(float, sparse.find(matrix)[2]), strict=True)
    )
    whole = read_matrix(write(text))
    monkeypatch.setattr(number_text, "BLOCK", 1000)
    assert abs(read_matrix(write(text)) - whole).max() == 0
    assert abs(whole - matrix).max() == 0
    lines = text.split("\n")
    lines[3001] += " 7"
    with pytest.raises(MatrixFileError, match="line 3002: expected 3 numbers, got 4"):
        read_matrix(write("\n".join(lines)))


# --- what gzip becomes -----------------------------------------------------------------------------------------------


def test_gzip_is_read_and_bounded(write):
    text = f"{BANNER}2 2 2\n1 1 1.5\n2 2 3\n"
    path = write(text, packed=True)
    assert read_matrix(path, max_bytes=len(text)).diagonal().tolist() == [1.5, 3.0]
    with pytest.raises(MatrixFileError, match=f"of gzip become more than max_bytes = {len(text) - 1}"):
        read_matrix(path, max_bytes=len(text) - 1)
    bomb = write(BANNER.encode() + b"1 1 1\n" + b" " * 3_000_000, packed=True)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(MatrixFileError, match="become more than max_bytes"):
        read_matrix(bomb, max_bytes=1_000_000)
    with pytest.raises(MatrixFileError, match="announced, which take at least"):
        read_matrix(write(f"{BANNER}9 9 99999999\n1 1 1\n", packed=True))
    with pytest.raises(MatrixFileError, match="gzip data is damaged or cut off"):
        read_matrix(write(gzip.compress(text.encode())[:-9]))


# --- half a symmetric matrix -----------------------------------------------------------------------------------------


def test_half_a_symmetric_matrix_in_a_general_file_is_taken_only_as_the_caller_says(write):
    rows, columns = np.nonzero(HALF)
    text = f"{BANNER}3 3 {len(rows)}\n" + "".join(
        f"{i + 1} {j + 1} {HALF[i, j]}\n" for i, j in zip(rows, columns, strict=True)
    )
    path = write(text)
    with pytest.raises(MatrixFileError, match="all entries lie on or above the diagonal.*pass symmetric_half=True"):
        read_matrix(path)
    assert np.array_equal(read_matrix(path, symmetric_half=True).toarray(), EXACT)
    assert np.array_equal(read_matrix(path, symmetric_half=False).toarray(), HALF)
    with pytest.raises(MatrixFileError, match="symmetric_half needs a triangular matrix"):
        read_matrix(write(f"{BANNER}2 2 2\n1 2 1\n2 1 1\n"), symmetric_half=True)
    assert read_matrix(write(f"{BANNER}2 2 2\n1 1 1\n2 2 1\n")).nnz == 2  # a diagonal is no half
