"""What `through_petsc.py` runs of any matrix: given to PETSc, preconditioned with `AlgebraicCycle`."""

import numpy as np
from petsc4py import PETSc
from scipy import sparse

from relaxon.solvers import gallery

PYTHON = {"ksp_type": "cg", "pc_type": "python", "pc_python_type": "relaxon.solvers.petsc.AlgebraicCycle"}
SIZE, RANK = PETSc.COMM_WORLD.getSize(), PETSc.COMM_WORLD.getRank()


def given(whole, kind="aij", block=1):
    """A SciPy matrix as PETSc's, its rows divided evenly."""
    nodes = whole.shape[0] // block
    bounds = block * (np.arange(SIZE + 1) * nodes // SIZE)
    low, high = bounds[RANK], bounds[RANK + 1]
    rows = sparse.csr_array(whole)[low:high]
    csr = (rows.indptr.astype(PETSc.IntType), rows.indices.astype(PETSc.IntType), rows.data.copy())
    matrix = PETSc.Mat().createAIJ(((high - low, whole.shape[0]),) * 2, bsize=block, csr=csr)
    matrix.setOption(PETSc.Mat.Option.SYMMETRIC, kind == "sbaij")
    return matrix.convert(kind) if kind != "aij" else matrix


def vector(matrix, values):
    made = matrix.createVecLeft()
    made.getArray()[...] = values[slice(*matrix.getOwnershipRange())]
    return made


def solver_of(matrix, options, rtol):
    chosen = PETSc.Options()
    for key, value in options.items():
        chosen["a_" + key] = value
    solver = PETSc.KSP().create()
    solver.setOptionsPrefix("a_")
    solver.setOperators(matrix)
    solver.setTolerances(rtol=rtol, max_it=500)
    solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    solver.setFromOptions()
    for key in options:
        chosen.delValue("a_" + key)
    return solver


def solved(name, whole, b, options=None, rtol=1e-6, kind="aij", block=1, prepare=None):
    matrix = given(whole, kind, block)
    if prepare is not None:
        prepare(matrix)
    solver = solver_of(matrix, PYTHON | (options or {}), rtol)
    right, x = vector(matrix, b), matrix.createVecRight()
    solver.solve(right, x)
    residual = right.duplicate()
    matrix.mult(x, residual)
    residual.aypx(-1.0, right)
    context = solver.getPC().getPythonContext()
    levels = [] if context._cycle is None else [level.matrix.getSize()[0] for level in context._cycle.levels]
    return {
        "case": name,
        "iterations": solver.getIterationNumber(),
        "reason": solver.getConvergedReason(),
        "residual": residual.norm() / right.norm(),
        "x": x.norm(),
        "levels": levels,
    }


def random_side(whole):
    return whole @ np.random.default_rng(0).standard_normal(whole.shape[0])


def constants(matrix):
    matrix.setNullSpace(PETSc.NullSpace().create(constant=True))


def solves():
    small = {"pc_relaxon_gathered": "400"}
    for name in ("laplacian-3d", "tetrahedra-3d", "random-jumps-3d", "lognormal-3d", "rotated-2d", "stretched-3d"):
        whole = gallery.matrix(name, 5_000)
        yield solved(name, whole, random_side(whole), small)
    poisson = gallery.matrix("laplacian-3d", 5_000)
    b = random_side(poisson)
    few = gallery.matrix("laplacian-3d", 2_000)
    yield solved("gathered at once", few, random_side(few))
    yield solved("negative", -poisson, b, small)
    yield solved("flexible", poisson, b, small | {"ksp_type": "fcg"})
    whole = gallery.matrix("neumann-2d", 2_000)
    yield solved("singular", whole, random_side(whole), small, prepare=constants)
    whole = gallery.matrix("elasticity-2d", 2_000)
    yield solved("blocks", whole, random_side(whole), {"pc_relaxon_gathered": "200"}, block=2)
    yield solved("sbaij", poisson, b, small, kind="sbaij")


def symmetry():
    """How far the map is from linear, symmetric and positive, on any number of processes."""
    whole = gallery.matrix("random-jumps-3d", 3_000)
    matrix = given(whole)
    pc = solver_of(matrix, PYTHON | {"pc_relaxon_gathered": "300"}, 1e-6).getPC()
    pc.setUp()
    root = np.sqrt(whole.diagonal())
    u, v = (vector(matrix, root * w) for w in np.random.default_rng(0).standard_normal((2, whole.shape[0])))
    images = []
    for one in (u, v, 3.0 * u - 0.5 * v):
        image = u.duplicate()
        pc.apply(one, image)
        images.append(image)
    mu, mv, both = images
    scale = np.sqrt(u.dot(mu) * v.dot(mv))
    difference = both - (3.0 * mu - 0.5 * mv)
    return {
        "asymmetry": abs(u.dot(mv) - v.dot(mu)) / scale,
        "positive": u.dot(mu) > 0,
        "linear": difference.norm() / both.norm(),
    }


def refusal(whole, options=None):
    try:
        solver_of(given(whole), PYTHON | (options or {}), 1e-6).setUp()
    except (ValueError, TypeError, PETSc.Error) as error:
        return str(error)
    return ""


def refusals():
    poisson = gallery.matrix("laplacian-2d", 900)
    skewed = sparse.lil_array(poisson)
    skewed[0, 1] = -0.5
    yield "not symmetric", refusal(skewed.tocsr())
    sides = sparse.csr_array(poisson @ sparse.diags_array(np.where(np.arange(poisson.shape[0]) % 2, 1.0, -1.0)))
    yield "both signs", refusal(sides)
    broken = poisson.copy()
    broken.data[0] = np.nan
    yield "NaN", refusal(broken)
    yield "option", refusal(poisson, {"pc_relaxon_gathered": "0"})


def changed():
    """A matrix whose values change: the levels are set up anew."""
    whole = gallery.matrix("laplacian-3d", 3_000)
    matrix = given(whole)
    solver = solver_of(matrix, PYTHON | {"pc_relaxon_gathered": "500"}, 1e-8)
    rows = []
    for other in (whole, sparse.csr_array(whole + 3.0 * sparse.eye_array(whole.shape[0]))):
        replaced = given(other)
        solver.setOperators(replaced)
        x = replaced.createVecRight()
        solver.solve(vector(replaced, random_side(other)), x)
        rows.append([solver.getIterationNumber(), solver.getConvergedReason()])
    return rows


def passed_on():
    """What the rigid motions of a body and its block size become."""
    from relaxon.solvers.petsc.algebraic import _properties

    matrix = given(sparse.eye_array(12 * SIZE).tocsr(), block=3)
    points = matrix.createVecRight()
    points.setBlockSize(3)
    points.getArray()[...] = np.random.default_rng(RANK).standard_normal(points.getLocalSize())
    matrix.setNearNullSpace(PETSc.NullSpace().createRigidBody(points))
    told = _properties(matrix)
    first = told["near_null"][:3, 0]
    shown = " ".join(str(round(abs(float(value / abs(first).max())), 6)) for value in first)
    return {"block_size": told["block_size"], "near_null": [told["near_null"].shape[1], shown]}


def found():
    """Everything, for the tests."""
    return {
        "solves": list(solves()),
        "symmetry": symmetry(),
        "refusals": dict(refusals()),
        "changed": changed(),
        "passed on": passed_on(),
    }
