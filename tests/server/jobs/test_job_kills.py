"""Jobs outlive kill −9 of their process and of their server: nothing lost, nothing done twice, the same bits."""

import time

import pytest
from killing import boosting, convex, energy, equilibrium, outlive, proximal


def test_a_job_comes_through_a_few_kills_of_its_process_and_of_its_server(tmp_path):
    report = outlive(tmp_path, boosting(80, 4_000), kills=3, seed=5, longest=0.2)
    assert report.worker_kills == 2
    assert report.server_kills == 1
    assert report.starts >= report.jobs + 2


def test_a_density_s_training_comes_through_kills_of_its_process_and_of_its_server(tmp_path):
    report = outlive(tmp_path, energy(160), kills=2, seed=2, longest=0.1)
    assert report.worker_kills == report.server_kills == 1


@pytest.mark.slow
def test_a_proximal_operator_s_training_comes_through_kills_of_its_process_and_of_its_server(tmp_path):
    report = outlive(tmp_path, proximal(300), kills=3, seed=4, longest=0.2)
    assert (report.worker_kills, report.server_kills) == (2, 1)


@pytest.mark.slow
def test_a_convex_network_s_training_comes_through_kills_of_its_process_and_of_its_server(tmp_path):
    report = outlive(tmp_path, convex(600), kills=3, seed=4, longest=0.3)
    assert (report.worker_kills, report.server_kills) == (2, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["boosting", "energy", "equilibrium", "proximal"])
def test_jobs_come_through_50_kills_at_random_moments(kind, tmp_path, capsys):
    made = {
        "boosting": lambda: boosting(700),
        "energy": lambda: energy(3000),
        "equilibrium": lambda: equilibrium(25),
        "proximal": lambda: proximal(800),
    }[kind]()
    since = time.monotonic()
    report = outlive(tmp_path, made, kills=50, seed=1, longest=1.0)
    assert report.worker_kills == report.server_kills == 25
    with capsys.disabled():
        print(f"\n{kind}: {report} in {time.monotonic() - since:.0f} s")
