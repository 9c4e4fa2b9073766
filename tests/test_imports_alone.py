"""Every module can be the first of the project that is imported: none leans on another having been there before."""

from __future__ import annotations

import subprocess
import sys

from package_modules import PACKAGE, modules

PROGRAM = """
import gc, importlib, os, sys, traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
import grpc, numba, numpy, scipy.sparse.linalg, sklearn.base, torch  # in the parent, once

root, names = Path(sys.argv[1]), sys.argv[2:]
code = {}
for name in ["relaxon", "relaxon._version", *names]:
    file = root.joinpath(*name.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    if file.exists():  # without one, a namespace
        code[name] = SourceFileLoader(name, str(file)).get_code(name)
read = SourceFileLoader.get_code
# Each file is compiled once, however often it is run.
SourceFileLoader.get_code = lambda self, name: code[name] if name in code else read(self, name)
gc.collect()
gc.freeze()


def elsewhere():
    return {name for name in sys.modules if name.partition(".")[0] != "relaxon"}


def import_each(names):
    # Each with none of the project's modules there, until one has brought a module that is not the project's: on that
    # the next could lean. Says how many there were and whether the last of them failed.
    before = elsewhere()
    for count, name in enumerate(names, 1):
        for module in [*sys.modules]:
            if module.partition(".")[0] == "relaxon":
                del sys.modules[module]
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            return count, 1
        if elsewhere() != before:
            break
    return count, 0


failed = []
while names:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"%d %d" % import_each(names))
        os._exit(0)
    os.close(writer)
    count, wrong = map(int, os.read(reader, 100).split() or (1, 1))  # nothing where the process has died
    os.close(reader)
    os.waitpid(child, 0)
    if wrong:
        failed.append(names[count - 1])
    names = names[count:]
sys.exit(" ".join(failed) or 0)
"""


def test_every_module_of_the_engines_can_be_imported_first():
    names = [
        name
        for name in modules("core", "wire", "implicit", "solvers", "neuromorphic")
        if ".petsc." not in name or name.endswith("kernels")
    ]
    assert len(names) > 100
    command = [sys.executable, "-c", PROGRAM, str(PACKAGE.parent), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
