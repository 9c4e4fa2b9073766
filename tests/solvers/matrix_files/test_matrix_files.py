"""Matrix files: every format gives the matrix that was written, and what is wrong is refused where it stands."""

import contextlib
import gzip
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import io, sparse

from relaxon.solvers import MatrixFileError, read_matrix, read_vector
from relaxon.solvers.matrix_files import load_matrix

BANNER = "%%MatrixMarket matrix coordinate real general\n"
EXACT = np.array([[4.0, -1.25, 0.0], [-1.25, 3.0, 0.5], [0.0, 0.5, 5.0]])
DATA = Path(__file__).parents[2] / "data"
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


# --- PETSc -----------------------------------------------------------------------------------------------------------


def petsc_matrix(matrix, index=">i4", scalar=">f8"):
    matrix = sparse.csr_array(matrix)
    head = np.array([1211216, *matrix.shape, matrix.nnz], index)
    parts = (head, np.diff(matrix.indptr).astype(index), matrix.indices.astype(index), matrix.data.astype(scalar))
    return b"".join(part.tobytes() for part in parts)


def petsc_vector(values, index=">i4", scalar=">f8"):
    return np.array([1211214, len(values)], index).tobytes() + np.array(values, scalar).tobytes()


@pytest.mark.parametrize("index", [">i4", ">i8"])
@pytest.mark.parametrize("scalar", [">f8", ">c16", ">f4"])
@pytest.mark.parametrize("behind", [False, True])
def test_petsc_s_matrices_and_vectors_are_read_in_every_build_s_layout(write, index, scalar, behind):
    matrix = random_matrix(20, 30)
    matrix = (matrix * (1 + 2j)) if scalar == ">c16" else matrix.astype(np.float32)
    vector = petsc_vector([1.0, -2.0], index, scalar)
    path = write(petsc_matrix(matrix, index, scalar) + vector * behind, "A.petsc")
    assert np.array_equal(read_matrix(path).toarray(), matrix.toarray())
    assert read_vector(path if behind else write(vector)).tolist() == [1.0, -2.0]


def test_petsc_s_symmetric_matrices_are_completed_with_their_blocks(write):
    assert np.array_equal(read_matrix(write(petsc_matrix(HALF))).toarray(), EXACT)
    assert np.array_equal(read_matrix(write(petsc_matrix(HALF)), symmetric_half=False).toarray(), HALF)
    block = np.array([[4.0, 1.0], [1.0, 3.0]])
    coupling = np.array([[-1.0, 0.5], [0.25, -2.0]])
    whole = np.block([[block, coupling], [coupling.T, 2 * block]])
    upper = np.block([[block, coupling], [np.zeros((2, 2)), 2 * block]])
    path = write(petsc_matrix(upper), "blocks")
    write("-matload_block_size 2\n", "blocks.info")
    read = load_matrix(path)
    assert np.array_equal(read.matrix.toarray(), whole)
    assert "completed by its transpose" in read.notes[0]


def test_a_dense_petsc_matrix_is_read_by_rows(write):
    content = np.array([1211216, 2, 2, -1], ">i4").tobytes() + np.array([1.0, 2.0, 3.0, 4.0], ">f8").tobytes()
    assert read_matrix(write(content)).toarray().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-3], "expected 7 values of 8 bytes"),
        (lambda data: data[:30], "expected 7 integers of 4 bytes, the file ends at byte 30"),
        (
            lambda data: data[:12] + np.array([8], ">i4").tobytes() + data[16:],
            "must sum to the 8 entries announced, got 7",
        ),
        (lambda data: data[:28] + np.array([3], ">i4").tobytes() + data[32:], "expected a column from 0 to 2, got 3"),
        (lambda data: data[:-8] + np.array([np.nan], ">f8").tobytes(), "expected finite values, got nan"),
        (lambda data: petsc_vector([1.0]), "the file holds vectors alone"),
    ],
)
def test_a_damaged_petsc_file_is_refused_by_its_byte(write, change, words):
    with pytest.raises(MatrixFileError, match=words):
        read_matrix(write(change(petsc_matrix(EXACT))))


# --- Harwell-Boeing --------------------------------------------------------------------------------------------------


def boeing(kind, formats, pointers, indices, values, cards=(3, 1, 1, 1, 0), right=(), size=3):
    head = [
        f"{'A matrix':<72}{'KEY':<8}",
        "".join(f"{card:14d}" for card in cards),
        f"{kind:<14}{size:14d}{size:14d}{len(indices):14d}{0:14d}",
        "".join(f"{text:<{width}}" for text, width in zip(formats, (16, 16, 20, 20), strict=False)),
        *right,
    ]
    return "\n".join([*head, *pointers, *indices_lines(indices), *values]) + "\n"


def indices_lines(indices):
    return ["".join(f"{index:3d}" for index in indices)]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("(5E10.3)", " 4.000E+00-1.250E+00 3.000E+00 5.000E-01 5.000E+00"),
        ("(1P,5D10.3)", " 4.000D+00-1.250D+00 3.000D+00 5.000D-01 5.000D+00"),
        ("(5(1PE10.2))", "  4.00E+00 -1.25E+00  3.00E+00  5.00E-01  5.00E+00"),
        ("(5F6.2)", "  4.00 -1.25  3.00   .50  5.00"),
        ("(1X,5E11.3)", "   4.000E+00 -1.250E+00  3.000E+00  5.000E-01  5.000E+00"),
        ("(5(1P,E10.2,2X))", "  4.00E+00   -1.25E+00    3.00E+00    5.00E-01    5.00E+00"),
        ("(5F6.2)", "   400  -125   300    50   500"),
        ("(5E9.2)", " 4.00+000-1.25+000 3.00+000 5.00-001 5.00+000"),
    ],
)
def test_symmetric_boeing_files_are_read_in_fortran_s_fields(write, form, line):
    text = boeing("RSA", ("(4I3)", "(5I3)", form, ""), ["  1  3  5  6"], [1, 2, 2, 3, 3], [line])
    assert np.array_equal(read_matrix(write(text)).toarray(), EXACT)


def test_a_scale_factor_divides_numbers_without_an_exponent(write):
    text = boeing(
        "rua", ("(4I3)", "(5I3)", "(1P,3F6.2)"), ["  1  2  3  4"], [1, 2, 3], [" 40.00 30.00  5.E1"], (3, 1, 1, 1)
    )
    assert read_matrix(write(text)).diagonal().tolist() == [4.0, 3.0, 50.0]


def test_fields_that_touch_are_parted_by_their_width_over_several_lines(write):
    n = 1200
    pointers = [1 + i for i in range(n + 1)]
    lines = ["".join(f"{value:4d}" for value in pointers[at : at + 7]) for at in range(0, n + 1, 7)]
    indices = ["".join(f"{value:4d}" for value in range(at + 1, min(at + 8, n + 1))) for at in range(0, n, 7)]
    head = [
        "title",
        f"{9:14d}{1:14d}{1:14d}{0:14d}",
        f"{'PUA':<14}{n:14d}{n:14d}{n:14d}{0:14d}",
        f"{'(7I4)':<16}{'(7I4)':<16}",
    ]
    matrix = read_matrix(write("\n".join([*head, *lines, *indices]) + "\n"))
    assert matrix.shape == (n, n)
    assert np.array_equal(matrix.toarray(), np.eye(n))


def test_scipy_s_own_harwell_boeing_files_are_read(tmp_path):
    matrix = random_matrix()
    matrix.data -= 0.5  # SciPy writes negative numbers over the fields that it announces
    io.hb_write(tmp_path / "a.rua", matrix.tocsc())
    assert np.array_equal(read_matrix(tmp_path / "a.rua").toarray(), matrix.toarray())


def test_the_right_hand_sides_behind_a_boeing_matrix_are_read(write):
    right = [f"{'F':<14}{2:14d}{0:14d}"]
    values = [" 4.000E+00-1.250E+00 3.000E+00 5.000E-01 5.000E+00", "   1   2   3", "   4   5   6"]
    formats = ("(4I3)", "(5I3)", "(5E10.3)", "(3F4.0)")
    path = write(boeing("RSA", formats, ["  1  3  5  6"], [1, 2, 2, 3, 3], values, (5, 1, 1, 1, 2), right))
    assert np.array_equal(read_matrix(path).toarray(), EXACT)
    assert read_vector(path, column=1).tolist() == [4, 5, 6]
    with pytest.raises(MatrixFileError, match="expected one right-hand side, got 2"):
        read_vector(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("RSA", "RSE"), "unassembled elements"),
        (("(5E10.3)", "(A8,E9.1)"), "expected a Fortran format of equal fields"),
        (("(5E10.3)", "(5E10.999)"), "must be of a line's length and of common sizes"),
        (("(5E10.3)", "(I2,E9.1)"), "expected a Fortran format of equal fields"),
        (("(5E10.3)", "(1X,(E9.1"), "expected a Fortran format of equal fields"),
        (("  1  3  5  6", "  1  3  5  7"), "pointers must grow from 1 to 6, got 1 to 7"),
        (("-1.250E+00", "-1.2x0E+00"), "line 7, field 2 of .5E10.3.: values: expected a number, got '-1.2x0E[+]00'"),
        (("-1.250E+00", "          "), "field 2 of .5E10.3.: values: expected a number, got blanks"),
        (("  1  2  2  3  3", "  1  2  2  4  3"), "expected a row from 1 to 3, got 4"),
    ],
)
def test_a_wrong_boeing_file_is_refused_by_line_and_field(write, change, words):
    line = " 4.000E+00-1.250E+00 3.000E+00 5.000E-01 5.000E+00"
    text = boeing("RSA", ("(4I3)", "(5I3)", "(5E10.3)", ""), ["  1  3  5  6"], [1, 2, 2, 3, 3], [line])
    assert change[0] in text
    with pytest.raises(MatrixFileError, match=words):
        read_matrix(write(text.replace(*change)))


# --- OpenFOAM --------------------------------------------------------------------------------------------------------

FOAM = "/*---- C++ ----*\\\n  a banner (1)\n*/\nFoamFile\n{{\n    format {};\n    class {};\n}}\n// * * //\n\n"


def foam(values, kind="scalarField", form="ascii"):
    listed = values if isinstance(values, str) else f"{len(values)}\n(\n" + "\n".join(map(str, values)) + "\n)\n"
    return FOAM.format(form, kind) + listed


def test_an_ldu_matrix_is_read_from_its_lists_and_the_mesh_s(tmp_path, write):
    write(foam([4.0, 3.0, 5.0]), "diag")
    write(foam([-1.25, 0.5]), "upper", packed=False)
    write(foam([0, 1, 2, 2], "labelList"), "owner")  # with the boundary's faces behind the inner ones
    write(foam("2(1 2)", "labelList"), "neighbour.gz", packed=True)
    assert np.array_equal(read_matrix(tmp_path).toarray(), EXACT)
    write(foam("2{-2.5e-01}"), "lower")
    found = read_matrix(tmp_path / "diag").toarray()
    assert found[1, 0] == found[2, 1] == -0.25
    assert (found[0, 1], found[1, 2]) == (-1.25, 0.5)
    write(foam([1, 0], "labelList"), "lowerAddr")
    write(foam([2, 1], "labelList"), "upperAddr")  # the matrix's own addressing goes before the mesh's
    assert read_matrix(tmp_path)[1, 2] == -1.25
    assert read_vector(write(foam("nonuniform List<scalar> \n3\n(\n1\n2\n3\n)\n;"), "source")).tolist() == [1, 2, 3]


def test_a_wrong_ldu_list_is_refused(tmp_path, write):
    write(foam([4.0, 3.0, 5.0]), "diag")
    with pytest.raises(MatrixFileError, match="upper is missing"):
        read_matrix(tmp_path)
    write(foam([-1.0, -1.0]), "upper")
    with pytest.raises(MatrixFileError, match="lowerAddr and upperAddr.*got neither"):
        read_matrix(tmp_path)
    write(foam([0, 1], "labelList"), "lowerAddr")
    write(foam([1, 3], "labelList"), "upperAddr")
    with pytest.raises(MatrixFileError, match="upperAddr, entry 2: expected a cell from 0 to 2, got 3"):
        read_matrix(tmp_path)
    for content, words in (
        (foam("3\n(\n1\n2\n)"), "3 values are announced, the list holds 2"),
        (foam("2\n(\n1\nx\n)"), "line 14: expected a number, got 'x'"),
        (foam("2\n(\n1\n2\n"), "expected the end of a list"),
        (foam("99999999999{1}"), "take more than max_bytes"),
        (foam([1, 2], form="binary"), "got binary: foamFormatConvert"),
    ):
        write(content, "upperAddr")
        with pytest.raises(MatrixFileError, match=words):
            read_matrix(tmp_path)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["heat-plate.mtx.gz", "network.npz", "beam.rsa.gz", "half.petsc", "cavity/source"])
@pytest.mark.parametrize("inflated", [False, True])
def test_a_damaged_file_is_refused_or_read_but_nothing_else(write, name, inflated):
    content = (DATA / name).read_bytes()
    if inflated and content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    rng = random.Random(name)
    for _ in range(80):
        data = bytearray(content)
        for _ in range(rng.choice([1, 2, 5])):
            at = rng.randrange(len(data) if rng.random() < 0.5 else 400)
            pieces = [
                b"9",
                b"9999999",
                b"\n",
                b" ",
                b"-",
                b"e300",
                b"%",
                b"(",
                b"\xb3",
                bytes([rng.randrange(256)]),
            ]
            data[at : at + rng.choice([0, 1, 2, 50])] = rng.choice(pieces)
        path = write(bytes(data[: rng.randrange(1, 2 * len(data))]))
        for read in (read_matrix, read_vector):
            with contextlib.suppress(MatrixFileError):
                assert read(path) is not None


# --- NumPy and SciPy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
def test_scipy_s_archives_are_read_in_every_format(tmp_path, form):
    matrix = sparse.csr_array(EXACT + np.eye(3, k=2))
    sparse.save_npz(tmp_path / "a.npz", matrix.asformat(form))
    assert np.array_equal(read_matrix(tmp_path / "a.npz").toarray(), matrix.toarray())


def test_a_wrong_archive_is_refused_and_nothing_is_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    good = {"format": np.array("csr"), "shape": np.array([2, 2]), "data": np.ones(2), "indptr": np.array([0, 1, 2])}
    for change, words in (
        ({"indices": np.array([0, 7])}, "no valid csr matrix"),
        ({}, "must have an array 'indices'"),
        ({"indices": np.array([0, 1]), "data": np.array([1.0, np.nan])}, "expected finite values"),
        ({"indices": np.array([{}, 1], object)}, "never unpickled"),
        ({"indices": np.array([0, 1]), "format": np.array("dok")}, "expected one of csr"),
    ):
        np.savez(path, **(good | change))
        with pytest.raises(MatrixFileError, match=words):
            read_matrix(path)
    np.savez_compressed(path, **(good | {"indices": np.zeros(300_000, np.int64)}))
    with pytest.raises(MatrixFileError, match="bytes when inflated exceed max_bytes"):
        read_matrix(path, max_bytes=1_000_000)
    with zipfile.ZipFile(path, "w") as archive:  # announces more than there is
        archive.writestr(
            "data.npy",
            b"\x93NUMPY\x01\x00v\x00"
            + f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**15},), }}".ljust(117).encode()
            + b"\n",
        )
    with pytest.raises(MatrixFileError, match="8000000000000000 bytes are announced"):
        read_matrix(path)


def test_text_triples_and_small_dense_matrices_are_told_apart(write):
    rows, columns = np.nonzero(EXACT)
    for base in (0, 1):
        text = "# i j value\n" + "".join(
            f"{i + base} {j + base} {EXACT[i, j]}\n" for i, j in zip(rows, columns, strict=True)
        )
        assert np.array_equal(read_matrix(write(text)).toarray(), EXACT)
    assert read_matrix(write("1 1 2\n2,2,3 % kept\n"), index_base=0).shape == (3, 3)
    assert np.array_equal(read_matrix(write("\n".join(" ".join(map(str, row)) for row in EXACT))).toarray(), EXACT)
    assert read_matrix(write("0 0 1 2\n1 1 3 -4\n")).toarray().tolist() == [[1 + 2j, 0], [0, 3 - 4j]]
    for text, words in (
        ("1 1 5\n2 2 5\n3 3 5\n", "may be triples"),
        ("1 2\n3 4\n5 6\n", "got 3 rows of 2"),
        ("0 0 1\n0.5 1 2\n", "entry 2: expected two indices, got 0.5 1"),
        ("# nothing\n", "got an empty file"),
        ("1 1 1\n2 99999999999 1\n", "a shape of"),
    ):
        with pytest.raises(MatrixFileError, match=words):
            read_matrix(write(text))


def test_vectors_of_numpy_and_text_are_read(tmp_path, write):
    b = np.array([1.5, -2.0, 3.25])
    np.save(tmp_path / "b.npy", b.astype(np.float32)[:, None])
    np.savez(tmp_path / "b.npz", A=np.eye(2), rhs=b * 1j)
    np.savetxt(tmp_path / "b.txt", b)
    assert read_vector(tmp_path / "b.npy").tolist() == b.tolist()
    assert read_vector(tmp_path / "b.npz").tolist() == (b * 1j).tolist()
    assert read_vector(tmp_path / "b.txt").tolist() == b.tolist()
    assert read_vector(write("1.5 -2 3.25D0")).tolist() == b.tolist()
    assert read_vector(write("1 4\n2 5\n3 6\n"), column=1).tolist() == [4, 5, 6]
    array = write("%%MatrixMarket matrix array real general\n3 2\n1\n2\n3\n4\n5\n6\n")
    assert read_vector(array, column=1).tolist() == [4, 5, 6]
    sparse_column = write(f"{BANNER}4 1 1\n3 1 2.5\n")
    assert read_vector(sparse_column).tolist() == [0, 0, 2.5, 0]
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(MatrixFileError, match="never unpickled"):
        read_vector(tmp_path / "o.npy")
    np.savez(tmp_path / "two.npz", A=b, c=b)
    with pytest.raises(MatrixFileError, match="one array, or one named b or rhs, got A, c"):
        read_vector(tmp_path / "two.npz")


@pytest.mark.parametrize(
    ("options", "error"),
    [({"symmetric_half": "yes"}, TypeError), ({"index_base": 2}, ValueError), ({"max_bytes": 0}, ValueError)],
)
def test_a_mistake_in_the_arguments_is_refused_by_name(write, options, error):
    with pytest.raises(error, match=next(iter(options))):
        read_matrix(write(f"{BANNER}1 1 1\n1 1 1\n"), **options)
