"""The dashboard: what it records, what it tells over HTTP, whom it refuses, and what a browser makes of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import relaxon
from relaxon.cli.errors import explain_missing_module
from relaxon.core.solution import Progress
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.database import SqliteJobStore
from relaxon.server.jobs.records import Failure, Job
from relaxon.server.solving.grids import KeptGrid
from relaxon.server.solving.observations import Curve, Observations, SolveState
from relaxon.server.solving.sessions import SessionStore
from relaxon.solvers import PoissonGrid

pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra: dashboard)")

from relaxon.server.watching.dashboard.page import serving
from relaxon.server.watching.dashboard.view import View

SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.02)


def ask(address: str, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """A request whose path and Host are sent as they are."""
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def told(address: str, path: str) -> dict:
    status, _, text = ask(address, path)
    assert status == 200, text
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


class Shown:
    """A page over stores that a test fills."""

    def __init__(self, folder: Path) -> None:
        self.settings = replace(ServerSettings(), max_ended_jobs=2000)
        self.observations = Observations()
        self.sessions = SessionStore(self.settings)
        self.store = SqliteJobStore(folder, 2000)
        self.address = ""


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    made, loop, stop, ready = Shown(tmp_path), asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def main() -> None:
        view = View("127.0.0.1:1", made.settings, made.observations, made.sessions, made.store)
        async with serving(0, view) as url:
            made.address = url.removeprefix("http://").rstrip("/")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(SECONDS)
    yield made
    loop.call_soon_threadsafe(stop.set)
    thread.join(SECONDS)
    assert not thread.is_alive()
    loop.close()
    made.store.close()


# ---- what is recorded


@pytest.mark.parametrize("length", [1, 15, 16, 17, 1000, 100_003])
def test_a_curve_of_any_length_has_bounded_room_and_keeps_both_ends(length: int) -> None:
    curve = Curve(16)
    for x in range(length):
        curve.add(x, 1.0 / (1 + x))
    points = curve.points()
    places = [x for x, _ in points]
    assert len(points) <= 17
    assert len(points) >= min(length, 8)
    assert places[0] == 0
    assert places[-1] == length - 1
    assert places == sorted(set(places))
    assert all(y == 1.0 / (1 + x) for x, y in points)
    gaps = np.diff(places)[:-1]
    assert gaps.size == 0 or gaps.min() == gaps.max()


def test_solves_are_remembered_in_bounded_number_and_those_that_run_are_never_forgotten() -> None:
    observations = Observations(kept=5)
    running = observations.solve("cg", (4, 4), 16)
    running.begin()
    for _ in range(20):
        cancelled: Future = Future()
        cancelled.cancel()
        observations.solve("cg", (4, 4), 16).end(cancelled)
    remembered = observations.solves()
    assert len(remembered) <= 6
    assert running in remembered
    assert [one.number for one in remembered] == sorted((one.number for one in remembered), reverse=True)
    assert remembered[0].outcome == "abandoned"
    assert running.state is SolveState.RUNNING


# ---- what it tells


def test_a_solve_shows_while_it_runs_and_how_it_ended(endless) -> None:
    port = free_port()
    settings = ServerSettings(port=0, dashboard=True, dashboard_port=port, grace_seconds=0.0)
    address = f"127.0.0.1:{port}"
    with EmbeddedServer(settings) as server, relaxon.connect(server.target) as client:
        grid = client.poisson.grid(np.zeros((8, 6), np.uint8), boundary="dirichlet")
        stop = threading.Event()
        call = threading.Thread(
            target=lambda: grid.solve(
                np.ones((8, 6)), solver="damped", rtol=1e-14, callback=lambda progress: stop.is_set()
            )
        )
        call.start()
        eventually(lambda: [one for one in told(address, "/api/state")["solves"] if one["iterations"] > 5])
        state = told(address, "/api/state")
        (solve,) = state["solves"]
        assert (solve["state"], solve["solver"], solve["shape"], solve["unknowns"]) == ("running", "damped", [8, 6], 48)
        assert state["server"]["solves_running"] == 1
        assert solve["residuals"][0][0] == 0
        assert solve["residuals"][-1][1] < solve["residuals"][0][1]
        assert solve["tolerance"] == pytest.approx(1e-14 * np.sqrt(48), rel=1e-6)
        (session,) = state["sessions"]
        assert session["shape"] == [8, 6]
        assert session["calls"] == 1
        assert session["solvers"] == ["damped"]
        stop.set()
        call.join(SECONDS)
        eventually(lambda: told(address, "/api/state")["solves"][0]["state"] == "ended")
        assert told(address, "/api/solves/1")["outcome"] == "cancelled"
        grid.delete()
        assert told(address, "/api/state")["sessions"] == []


def test_a_solve_that_breaks_shows_as_failed(broken) -> None:
    broken(RuntimeError("a bug"))
    port = free_port()
    settings = ServerSettings(port=0, dashboard=True, dashboard_port=port, grace_seconds=0.0)
    with EmbeddedServer(settings) as server, relaxon.connect(server.target) as client:
        grid = client.poisson.grid(np.zeros((8, 6), np.uint8), boundary="dirichlet")
        with pytest.raises(relaxon.client.InternalError):
            grid.solve(np.ones((8, 6)), solver="broken")
        eventually(lambda: told(f"127.0.0.1:{port}", "/api/state")["solves"][0]["outcome"] == "failed")


def test_a_session_s_id_is_not_told(shown) -> None:
    kept = KeptGrid(PoissonGrid(np.zeros((4, 4), np.uint8), coefficient=np.ones((4, 4))))
    shown.sessions.add(kept)
    text = ask(shown.address, "/api/state")[2]
    assert kept.id not in text
    (session,) = json.loads(text)["sessions"]
    assert session["id"] == kept.id[:6]
    assert session["bytes"] == 4 * 4 * (1 + 8)


def test_a_job_tells_how_far_it_is_and_numbers_that_json_lacks_are_none(shown) -> None:
    job = jobs.begun(Job.new("equilibrium", "m"))
    shown.store.put(job)
    losses = [3.0, float("nan"), float("inf"), 0.5]
    for epoch, loss in enumerate(losses, 1):
        shown.store.add_progress(
            job.id, epoch, {"epoch": epoch, "epochs_wanted": 9, "loss": loss, "verdicts": {"ok": 2}}
        )
    (row,) = told(shown.address, "/api/state")["jobs"]
    assert (row["done"], row["wanted"], row["unit"], row["loss"]) == (4, 9, "epochs", 0.5)
    curves = told(shown.address, f"/api/jobs/{job.id}")["curves"]
    assert curves == {"loss": [[1, 3.0], [2, None], [3, None], [4, 0.5]], "validation_loss": []}


def lacking_torch(needs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({"torch"} & set(needs))


def test_what_the_server_lacks_packages_for_is_told(shown, monkeypatch) -> None:
    monkeypatch.setattr("relaxon.server.config.capabilities.find_missing", lacking_torch)
    lines = told(shown.address, "/api/state")["server"]["not_served"]
    assert 'energy needs torch: pip install "relaxon[neuromorphic]"' in lines
    assert not [line for line in lines if line.startswith(("poisson", "linear", "boosting"))]
    monkeypatch.setattr("relaxon.server.config.capabilities.find_missing", lambda needs: ())
    assert told(shown.address, "/api/state")["server"]["not_served"] == []


def test_a_long_job_s_curve_is_thinned_and_keeps_its_last_step(shown) -> None:
    job = jobs.begun(Job.new("boosting", "m"))
    shown.store.put(job)
    for unit in range(1, 5001):
        shown.store.add_progress(job.id, unit, {"units": unit, "units_wanted": 5000, "loss": 1 / unit})
    curve = told(shown.address, f"/api/jobs/{job.id}")["curves"]["loss"]
    assert len(curve) <= 258
    assert curve[0] == [1, 1.0]
    assert curve[-1] == [5000, 1 / 5000]


def test_jobs_come_by_page_the_newest_first(shown) -> None:
    for number in range(120):
        shown.store.put(Job.new("boosting", f"m{number}"))
    first, last = told(shown.address, "/api/state"), told(shown.address, "/api/state?jobs=100")
    assert [job["model"] for job in first["jobs"]][:2] == ["m119", "m118"]
    assert (len(first["jobs"]), first["jobs_total"]) == (50, 120)
    assert [job["model"] for job in last["jobs"]][-1] == "m0"
    beyond = told(shown.address, "/api/state?jobs=999999")
    assert beyond["jobs_first"] == 100
    assert len(beyond["jobs"]) == 20


# ---- whom it refuses


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_is_for_reading(shown, method: str) -> None:
    status, headers, _ = ask(shown.address, "/api/state", method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1.:{port}"]
)
@pytest.mark.parametrize("path", ["/", "/api/state"])
def test_under_another_name_it_says_nothing(shown, host: str, path: str) -> None:
    port = shown.address.rpartition(":")[2]
    status, _, text = ask(shown.address, path, Host=host.format(port=port))
    assert status in (400, 421)
    assert "solves" not in text


def test_its_own_names_are_let_in(shown) -> None:
    port = shown.address.rpartition(":")[2]
    assert ask(shown.address, Host=f"localhost:{port}")[0] == 200
    assert ask(shown.address, method="HEAD")[2] == ""


@pytest.mark.parametrize("path", ["/", "/dashboard.js", "/api/state", "/api/jobs/none", "/no", "/api/solves/x"])
def test_every_answer_shuts_other_sites_out(shown, path: str) -> None:
    _, headers, _ = ask(shown.address, path, Origin="http://evil.example")
    assert not [name for name in headers if name.startswith("access-control")]
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/../settings.py", 404),
        ("/%2e%2e/%2e%2e/settings.py", 404),
        ("/static/index.html", 404),
        ("/api/jobs/..%2f..%2fetc%2fpasswd", 404),
        ("/api/solves/1", 404),
        ("/api/solves/-1", 400),
        ("/api/solves/" + "9" * 400, 400),
        ("/api/solves/%D9%A1", 400),
        ("/api/state?jobs=1e9", 400),
        ("/api/state?jobs=", 400),
    ],
)
def test_what_it_does_not_have_is_refused_without_a_fault(shown, caplog, path: str, status: int) -> None:
    assert ask(shown.address, path)[0] == status
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_server_without_it_listens_nowhere_else_and_records_nothing(serving, damped) -> None:
    port = free_port()
    server = serving(dashboard_port=port)
    with relaxon.connect(server.target) as client:
        client.poisson.grid(np.zeros((6, 6), np.uint8), boundary="dirichlet").solve(np.ones((6, 6)), solver="damped")
    with pytest.raises(ConnectionRefusedError):
        ask(f"127.0.0.1:{port}")


def test_a_port_that_is_taken_is_named_and_the_server_leaves_its_own() -> None:
    own = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = ServerSettings(port=own, dashboard=True, dashboard_port=taken.getsockname()[1], grace_seconds=0.0)
        with pytest.raises(OSError, match="dashboard_port"):
            EmbeddedServer(settings).__enter__()
    with EmbeddedServer(replace(settings, dashboard=False)):
        pass


@pytest.mark.parametrize("port", [-1, 65536, 1.0, "80", True])
def test_a_bad_port_is_refused(port: object) -> None:
    with pytest.raises(ValueError, match="dashboard_port"):
        ServerSettings(dashboard_port=port)  # type: ignore[arg-type]


def test_a_missing_package_is_named_with_its_extra() -> None:
    assert "relaxon[dashboard]" in explain_missing_module(ModuleNotFoundError(name="aiohttp"))


# ---- in a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    installed = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: none of {', '.join(names)} is installed, nor playwright's: {error.message[:80]}")
        yield started
        started.close()


@pytest.fixture
def page(browser, shown):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    complaints: list[str] = []
    elsewhere: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: elsewhere.append(request.url) if shown.address not in request.url else None)
    opened.set_default_timeout(1000 * SECONDS)
    opened.goto(f"http://{shown.address}/")
    yield opened
    context.close()
    assert complaints == []
    assert elsewhere == []


def test_a_browser_shows_a_solve_as_it_runs_and_says_when_nothing_is_there(shown, page) -> None:
    page.wait_for_selector("#connection[data-state=live]")
    for empty in ("#solves-empty", "#jobs-empty", "#sessions-empty"):
        assert page.locator(empty).is_visible()
    before = page.locator("#h-sessions").bounding_box()
    trace = shown.observations.solve("dcdm", (32, 32), 1024)
    trace.begin()
    for iteration in range(4):
        trace.record(Progress(iteration, 10.0**-iteration, 1e-6))
    page.wait_for_selector("#residuals path.curve")
    drawn = page.locator("#residuals path.curve").get_attribute("d")
    assert drawn.count(",") == 4
    assert page.locator("#solves tr").inner_text().split("\t")[1] == "32 × 32"
    assert page.locator("#solves-empty").is_hidden()
    assert "solve 1 by dcdm at 1000 times" in page.locator("#residuals").get_attribute("aria-label")
    trace.record(Progress(4, 1e-4, 1e-6))
    page.wait_for_function(
        "() => document.querySelector('#residuals path.curve').getAttribute('d').split(',').length == 6"
    )
    # What comes in moves nothing below it.
    assert page.locator("#h-sessions").bounding_box() == before


def test_a_browser_shows_a_job_s_curve_and_text_stays_text(shown, page) -> None:
    hostile = "<img src=x onerror=\"document.body.dataset.broken = '1'\">"
    job = jobs.begun(Job.new("boosting", "waves"))
    shown.store.put(job)
    for unit in range(1, 11):
        told = {"units": unit, "units_wanted": 40, "loss": 1 / unit, "validation_loss": 1.2 / unit}
        shown.store.add_progress(job.id, unit, told)
    shown.store.put(jobs.failed(Job.new("boosting", "other"), Failure("INTERNAL", hostile)))
    page.wait_for_selector("#losses path.curve")
    page.locator("#jobs").get_by_text(hostile).wait_for()
    assert page.locator("#losses path.curve").count() == 2
    assert page.locator("#jobs progress").evaluate("bar => bar.value / bar.max") == 0.25
    assert hostile in page.locator("#jobs").inner_text()
    assert page.locator("#jobs img").count() == 0
    assert page.evaluate("document.body.dataset.broken") is None


def test_a_browser_shows_what_is_not_served_and_nothing_where_all_is(shown, page, monkeypatch) -> None:
    monkeypatch.setattr("relaxon.server.config.capabilities.find_missing", lambda needs: ())
    page.wait_for_selector("#connection[data-state=live]")
    page.wait_for_selector("#not-served", state="hidden")
    monkeypatch.setattr("relaxon.server.config.capabilities.find_missing", lacking_torch)
    page.locator("#not-served li").get_by_text(
        'equilibrium needs torch: pip install "relaxon[neuromorphic]"'
    ).wait_for()
    monkeypatch.setattr("relaxon.server.config.capabilities.find_missing", lambda needs: ())
    page.wait_for_selector("#not-served", state="hidden")


def test_no_table_is_wider_than_its_place_on_a_usual_screen(shown, page) -> None:
    trace = shown.observations.solve("a-solver-with-a-long-name", (1024, 1024, 1024), 1024**3)
    trace.begin()
    trace.record(Progress(0, 1.0, 1e-6))
    long = "model of the pressure in the northern section, third attempt"
    for kind in ("boosting", "convex", "equilibrium", "energy", "proximal"):
        job = jobs.begun(Job.new(kind, long))
        shown.store.put(job)
        told = {"units": 1234, "units_wanted": 4096, "loss": 0.123456789, "validation_loss": 0.234567891}
        shown.store.add_progress(job.id, 1, told)
    shown.store.put(jobs.failed(Job.new("equilibrium", long), Failure("INTERNAL", "no room on disk " * 9)))
    page.locator("#jobs").get_by_text("no room on disk").wait_for()
    page.wait_for_selector("#solves tr")
    page.evaluate("document.fonts.ready")
    for place in page.locator(".scroll").all():
        wide, room, label = place.evaluate("box => [box.scrollWidth, box.clientWidth, box.ariaLabel]")
        assert wide <= room, label
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_keyboard_picks_a_solve_and_keeps_its_place(shown, page) -> None:
    for number in range(12):
        trace = shown.observations.solve("cg", (8, 8), 64)
        trace.begin()
        trace.record(Progress(0, 1.0, 1e-6))
        trace.record(Progress(1, 0.1 + number, 1e-6))
    page.wait_for_selector("#solves tr:nth-child(12)")
    # The oldest has no curve among the newest eight until it is picked.
    assert page.locator("#residuals path.curve").count() == 8
    oldest = page.locator("#solves button").last
    oldest.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#residuals path.faded")
    assert page.locator("#residuals path.curve").count() == 9
    assert page.locator("#residuals path.curve:not(.faded)").count() == 1
    shown.observations.solve("cg", (8, 8), 64)
    page.wait_for_selector("#solves tr:nth-child(13)")
    assert page.evaluate("document.activeElement.textContent") == "1 cg"
    assert page.locator("#solves button[aria-pressed=true]").inner_text() == "1 cg"


def test_a_thousand_jobs_are_turned_page_by_page(shown, page) -> None:
    for number in range(1000):
        shown.store.put(Job.new("boosting", f"m{number}"))
    page.wait_for_selector("#jobs tr:nth-child(50)")
    assert page.locator("#jobs tr").count() == 50
    assert page.locator("#newer").is_disabled()
    page.locator("#older").click()
    page.wait_for_function("() => document.querySelector('#page').textContent == '51 to 100 of 1000'")
    assert page.locator("#jobs button").first.inner_text() == "m949"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_schemes(shown, page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    contrasts = page.evaluate(CONTRAST)
    assert min(contrasts.values()) >= 4.5, contrasts


CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(name).trim();
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const found = {};
  for (const ink of ["--ink", "--soft", "--strong", "--good", "--bad", "--busy"]) {
    const [low, high] = [light(ink), light("--card")].sort((one, other) => one - other);
    found[ink] = (high + 0.05) / (low + 0.05);
  }
  return found;
}"""


def test_a_server_that_goes_is_said_to_be_gone(browser) -> None:
    port = free_port()
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(1000 * SECONDS)
    settings = ServerSettings(port=0, dashboard=True, dashboard_port=port, grace_seconds=0.0)
    with EmbeddedServer(settings):
        opened.goto(f"http://127.0.0.1:{port}/")
        opened.wait_for_selector("#connection[data-state=live]")
    opened.wait_for_selector("#connection[data-state=lost]")
    with EmbeddedServer(settings):
        opened.wait_for_selector("#connection[data-state=live]")
    context.close()
