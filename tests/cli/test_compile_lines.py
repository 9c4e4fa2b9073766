"""What commands say of compiling: once, ahead, how far it is, and where the results are kept."""

import io

import pytest
from rich.console import Console

from relaxon.cli import contest, doctor, grid_contest, main
from relaxon.cli.grid_contest import GridServer
from relaxon.cli.progress import LiveProgress
from relaxon.core import compile_progress
from relaxon.core.compile_progress import CompileProgress
from relaxon.solvers.kernels import cache_folder


@pytest.fixture
def terminal():
    progress = LiveProgress(quiet=False)
    text = io.StringIO()
    progress.console = progress._progress.live.console = Console(file=text, force_terminal=True, width=120)
    progress._progress.disable = False
    return progress, text


@pytest.mark.parametrize(("seconds", "said"), [(20.0, True), (0.0, False)])
def test_the_first_command_on_a_machine_names_relaxon_compile(seconds, said, monkeypatch, capsys):
    monkeypatch.setattr(grid_contest, "compile_seconds", lambda kind: seconds if kind == "cg 2D" else -1.0)
    assert main(["solve", "--size", "8", "--ndim", "2", "--problem", "box", "--solver", "cg"]) == 0
    told = capsys.readouterr().err
    assert ("`relaxon compile cg` does it ahead" in told) == said


def test_a_solve_s_line_says_how_far_compiling_is(terminal, monkeypatch):
    progress, text = terminal

    def small_grids(grid, solver):
        compile_progress.tell(CompileProgress(12, 31, 8.2))
        progress._progress.refresh()
        return ()

    system = type("System", (), {"grid": None})
    monkeypatch.setattr(grid_contest, "small_grids", small_grids)
    monkeypatch.setattr(contest, "solve_and_check", lambda *_: "run")
    with progress.show():
        assert contest.run_one(GridServer(None, local=False), system, "dcdm", 1e-6, None, progress) == "run"
    assert "compiling 12 of 31 kernels, about 8 s left" in text.getvalue()


def test_doctor_says_where_kernels_are_kept_and_what_to_do_where_they_are_not(monkeypatch, tmp_path):
    (tmp_path / "one.nbc").write_bytes(bytes(2**20))
    monkeypatch.setattr(cache_folder, "_folder", cache_folder.Folder(tmp_path, writable=True))
    problems: list[str] = []
    assert doctor._examine_cache(problems) == {"folder": str(tmp_path), "kept": True, "kernels": 1, "bytes": 2**20}
    assert problems == []
    away = cache_folder.Folder(None, writable=False, problem="the user has no home folder")
    monkeypatch.setattr(cache_folder, "_folder", away)
    assert doctor._examine_cache(problems) == {"folder": None, "kept": False, "kernels": 0, "bytes": 0}
    assert problems == [f"compiled kernels are not kept for later processes: {away.problem}; {cache_folder.REMEDY}"]
