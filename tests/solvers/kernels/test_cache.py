"""Compiled kernels are kept in the user's cache, and what is kept is never wrong, in the way, or a reason to fail."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from copies import CALLEE, PACKAGE, environment

from relaxon.solvers.kernels import cache_folder
from relaxon.solvers.kernels import key as kernel_key
from relaxon.solvers.kernels.cache_folder import LOCK, prune

PROGRAM = """
import json, warnings
from numba.core import event

compiled = []


class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(e.data["dispatcher"].py_func.__name__)

    def on_end(self, e):
        pass


event.register("numba:compile", Listener())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from relaxon.solvers.kernels.cache_folder import open_folder
    from relaxon.solvers.outer_kernels import add_twice

    answer = add_twice(1.0)
    add_twice(1)
folder = open_folder()
print(json.dumps({
    "answer": answer, "compiled": compiled, "folder": str(folder.path), "temporary": folder.temporary,
    "warnings": [str(one.message) for one in caught if "compiled kernels" in str(one.message)],
}))
"""


@pytest.fixture
def run(warm):
    """What a new process tells that calls the kernels of a copy."""

    def run(copy, program=PROGRAM, **changes):
        return json.loads(warm.run(program, environment(copy, **changes)))

    return run


def test_an_edited_callee_in_another_file_is_compiled_again(run, copy, tmp_path):
    home = str(tmp_path / "home")
    first = run(copy, XDG_CACHE_HOME=home)
    assert first["answer"] == 3.0
    assert {"add", "add_twice"} == set(first["compiled"])
    assert Path(first["folder"]).is_relative_to(Path(home, "relaxon", "kernels"))
    again = run(copy, XDG_CACHE_HOME=home)
    assert (again["answer"], again["compiled"]) == (3.0, [])

    callee = copy / "solvers" / "inner_kernels.py"
    stamp = callee.stat()
    callee.write_text(CALLEE.format(5))
    os.utime(callee, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the same size and time as before
    edited = run(copy, XDG_CACHE_HOME=home)
    assert edited["answer"] == 11.0
    assert edited["folder"] != first["folder"]


def test_a_reinstalled_package_compiles_nothing_again(run, copy, tmp_path):
    home = str(tmp_path / "home")
    run(copy, XDG_CACHE_HOME=home)
    elsewhere = tmp_path / "elsewhere" / "relaxon"
    shutil.copytree(copy, elsewhere)
    for file in elsewhere.rglob("*.py"):
        os.utime(file, (1.0, 1.0))
    assert run(elsewhere, XDG_CACHE_HOME=home)["compiled"] == []


def test_a_cached_kernel_runs_without_what_compiles_one(copy, tmp_path):
    """Numba's implementations of functions take 0.15 s to import and to register."""
    program = """
import sys
from relaxon.solvers.outer_kernels import add_twice

print(add_twice(1.0), *{"numba.np.npyimpl", "numba.np.linalg", "numba.np.arrayobj"} & {*sys.modules})
"""
    for last in (False, True):
        changes = environment(copy, XDG_CACHE_HOME=str(tmp_path))
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=os.environ | changes
        )
        assert done.stdout.split() == ["3.0"] if last else done.stdout.startswith("3.0 numba"), done.stderr


def test_numbas_own_variable_wins(run, copy, tmp_path):
    chosen = tmp_path / "chosen"
    told = run(copy, NUMBA_CACHE_DIR=str(chosen), XDG_CACHE_HOME=str(tmp_path / "home"))
    assert Path(told["folder"]).is_relative_to(chosen)
    assert not (tmp_path / "home").exists()


def test_without_a_place_there_is_one_warning_and_the_right_answer(run, copy, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder can be made in here")
    told = run(copy, XDG_CACHE_HOME=str(blocked), HOME=str(blocked))
    assert told["answer"] == 3.0
    assert told["temporary"]
    assert len(told["warnings"]) == 1
    assert "set NUMBA_CACHE_DIR" in told["warnings"][0]
    assert not Path(told["folder"]).exists()  # it went with the process
    nowhere = run(copy, XDG_CACHE_HOME=None, HOME=str(blocked), TMPDIR=str(blocked), NUMBA_CACHE_DIR=str(blocked))
    assert nowhere["answer"] == 3.0
    assert len(nowhere["warnings"]) == 1


FULL = """
import errno, pathlib
def full(*_): raise OSError(errno.ENOSPC, "No space left on device")
pathlib.Path.write_bytes = full
"""


def test_a_full_disk_is_one_warning(run, copy, tmp_path):
    told = run(copy, FULL + PROGRAM, XDG_CACHE_HOME=str(tmp_path))
    assert told["answer"] == 3.0
    assert len(told["warnings"]) == 1
    assert "No space left on device" in told["warnings"][0]
    assert [path for path in Path(told["folder"]).iterdir() if path.name != LOCK] == []


def test_two_processes_at_once_leave_a_sound_cache(run, copy, tmp_path):
    command, shared = [sys.executable, "-c", PROGRAM], environment(copy, XDG_CACHE_HOME=str(tmp_path))
    running = [subprocess.Popen(command, env=shared, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert json.loads(out)["answer"] == 3.0
    after = run(copy, XDG_CACHE_HOME=str(tmp_path))
    assert (after["answer"], after["compiled"]) == (3.0, [])


def test_a_damaged_file_is_compiled_again(run, copy, tmp_path):
    folder = Path(run(copy, XDG_CACHE_HOME=str(tmp_path))["folder"])
    for number, file in enumerate(sorted(folder.glob("*.nbc"))):
        content = file.read_bytes()
        file.write_bytes(content[:-100] if number % 2 else content[:-1] + bytes([content[-1] ^ 1]))
    told = run(copy, XDG_CACHE_HOME=str(tmp_path))
    assert told["answer"] == 3.0
    assert set(told["compiled"]) == {"add", "add_twice"}
    assert run(copy, XDG_CACHE_HOME=str(tmp_path))["compiled"] == []


def key(number):
    return f"cpython-311-{number:0{kernel_key.DIGITS}x}"


def make_key(root, number, days=0.0, size=10):
    folder = root / key(number)
    folder.mkdir()
    (folder / "kernel.nbc").write_bytes(bytes(size))
    (folder / LOCK).touch()
    used = time.time() - 86_400.0 * days
    os.utime(folder / LOCK, (used, used))
    return folder


def test_pruning_keeps_the_newest_and_whatever_is_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "KEPT_KEYS", 3)
    folders = [make_key(tmp_path, number, days=number) for number in range(6)]
    (tmp_path / "notes").mkdir()  # not one of ours
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl; f = open({str(folders[5] / LOCK)!r}, 'ab');"
         "fcntl.flock(f, fcntl.LOCK_SH);"
         "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        assert sorted(prune(tmp_path, keep=key(0))) == [key(4)]
        assert [folder.exists() for folder in folders] == [True, True, True, True, False, True]
    finally:
        holder.communicate(b"\n")
    assert prune(tmp_path, keep=key(0)) == [key(5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(key(number) for number in range(4)), "notes"]


def test_pruning_bounds_the_size_and_the_age(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "KEPT_BYTES", 250)
    for number in range(4):
        make_key(tmp_path, number, days=number, size=100)
    assert sorted(prune(tmp_path, keep=key(3))) == [key(1), key(2)]
    make_key(tmp_path, 9, days=1000)
    assert prune(tmp_path, keep=key(3)) == [key(9)]


def test_the_key_follows_sources_versions_processor_and_numbas_settings(monkeypatch):
    import llvmlite
    import numba
    from llvmlite import binding

    def now():
        kernel_key.kernel_key.cache_clear()
        return kernel_key.kernel_key()

    before = now()
    assert now() == before
    sources = kernel_key.kernel_sources()
    changes = [
        (kernel_key, "kernel_sources", lambda: {**sources, "solvers/new_kernels.py": b""}),
        (kernel_key, "kernel_sources", lambda: {name: text + b" " for name, text in sources.items()}),
        (numba, "__version__", "0"),
        (llvmlite, "__version__", "0"),
        (binding, "get_host_cpu_name", lambda: "other"),
        (binding, "get_host_cpu_features", dict),
        (numba.config, "BOUNDSCHECK", 1),
        (sys, "version", "other"),
    ]
    seen = {before}
    for owner, name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            seen.add(now())
    kernel_key.kernel_key.cache_clear()
    assert len(seen) == 1 + len(changes)


def test_every_kernel_of_the_package_is_in_a_file_that_the_key_covers():
    marks = ("njit(", "@njit", "= kernel(", "@kernel(", "@plain", "@part", "@shared(", "@lean", "@inlined")
    marks += ("intrinsic(",)
    holding = {
        str(file.relative_to(PACKAGE.parent))
        for part in kernel_key.PARTS
        for file in (PACKAGE.parent / part).rglob("*.py")
        if any(mark in file.read_text("utf-8") for mark in marks)
    }
    assert "solvers/grid/stencil_kernels.py" in holding
    assert holding <= set(kernel_key.kernel_sources())


def test_no_kernel_keeps_its_code_beside_the_package():
    for name, text in kernel_key.kernel_sources().items():
        assert b"cache=True" not in text, f"{name}: decorate with `relaxon.solvers.kernels.compiled`"
