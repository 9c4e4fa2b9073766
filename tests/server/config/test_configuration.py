"""One configuration: which place wins, what is refused and how it is named, and that it prints what it reads."""

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from relaxon.server.config import configuration
from relaxon.server.config.settings import ServerSettings

DEPLOY = Path(__file__).parents[3] / "deploy"


def written(tmp_path, text):
    path = tmp_path / "relaxon.toml"
    path.write_text(text)
    return str(path)


def test_options_come_before_the_environment_before_the_file_before_defaults(tmp_path):
    file = written(tmp_path, "port = 1\nmax_grids = 2\nmax_jobs = 3\ngrid_ttl_seconds = 5\n")
    environment = {"RELAXON_PORT": "10", "RELAXON_MAX_GRIDS": "20", "RELAXON_INSECURE": "true", "PATH": "/bin"}
    found = configuration.load({"port": 100}, environment, file)
    settings = found.settings
    assert (settings.port, settings.max_grids, settings.max_jobs, settings.insecure) == (100, 20, 3, True)
    assert settings.grid_ttl_seconds == 5.0
    assert settings.workers == ServerSettings().workers
    assert found.sources["port"] == "option"
    assert found.sources["max_grids"] == "environment RELAXON_MAX_GRIDS"
    assert found.sources["max_jobs"] == f"file {file}"
    assert found.sources["workers"] == "default"


def test_the_environment_names_the_file_and_an_option_another(tmp_path):
    file = written(tmp_path, "port = 1\n")
    assert configuration.load({}, {"RELAXON_CONFIG": file}).settings.port == 1
    (tmp_path / "other.toml").write_text("port = 2\n")
    assert configuration.load({}, {"RELAXON_CONFIG": file}, str(tmp_path / "other.toml")).settings.port == 2


def test_what_is_printed_is_a_file_that_says_the_same(tmp_path):
    odd = 'models "\\ \t\x7f é'
    found = configuration.load({"model_folder": odd, "insecure": True, "host": "0.0.0.0", "idle_seconds": 1e-7}, {})
    printed = found.as_toml()
    assert configuration.load({}, {}, written(tmp_path, printed)).settings == found.settings
    assert set(tomllib.loads(printed)) == set(configuration.DEFAULTS)
    assert "# option" in printed
    assert "# default" in printed


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("max_cels = 1", ValueError, "unknown setting 'max_cels'; is it 'max_cells'?"),
        ("[server]\nport = 1", ValueError, "unknown setting 'server'"),
        ('port = "1"', TypeError, "^port must be an integer, got '1' .file"),
        ("port = true", TypeError, "^port must be an integer"),
        ("insecure = 1", TypeError, "^insecure must be true or false"),
        ("host = 1", TypeError, "^host must be a string"),
        ("port = 70000", ValueError, "^port must be .* got 70000 .file"),
        ("port =", ValueError, "must be TOML"),
        ("a = " + "[" * 5000, ValueError, "must be TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_naming_setting_and_file(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        configuration.load({}, {}, written(tmp_path, text))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RELAXON_MAX_CELS", "1", "unknown setting 'RELAXON_MAX_CELS'; is it 'RELAXON_MAX_CELLS'?"),
        ("RELAXON_PORT", "x", "^port must be an integer, got 'x' .environment RELAXON_PORT"),
        ("RELAXON_PORT", "70000", "^port must .*environment RELAXON_PORT"),
        ("RELAXON_INSECURE", "maybe", "^insecure must be true or false"),
        ("RELAXON_port", "1", "unknown setting"),
        ("RELAXON_HOST", "0.0.0.0", "^host must be a loopback address.*environment RELAXON_HOST"),
    ],
)
def test_an_environment_that_is_wrong_is_refused_naming_the_variable(variable, value, message):
    with pytest.raises((ValueError, TypeError), match=message):
        configuration.load({}, {variable: value})


@pytest.mark.parametrize("word", ["1", "true", "YES", "on", "0", "False", "no", "off"])
def test_words_for_yes_and_no(word):
    settings = configuration.load({}, {"RELAXON_REFLECTION": word}).settings
    assert settings.reflection is (word.lower() in ("1", "true", "yes", "on"))


def test_what_the_client_s_commands_and_the_solvers_read_is_no_setting():
    configuration.load({}, {"RELAXON_TOKEN": "x", "RELAXON_TARGET": "y", "RELAXON_ROOT_CERTIFICATES": "z"})
    configuration.load({}, {"RELAXON_NUM_THREADS": "2"})


def test_the_command_prints_it_and_ends(tmp_path):
    file = written(tmp_path, "max_jobs = 3\n")
    command = [sys.executable, "-m", "relaxon", "serve", "--print-config", "--config", file, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"RELAXON_MAX_GRIDS": "9"})
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(done.stdout)["max_grids"] == 9
    lines = {line.partition(" =")[0]: line.partition("#")[2].strip() for line in done.stdout.splitlines()}
    assert lines["port"] == "option"
    assert lines["max_grids"] == "environment RELAXON_MAX_GRIDS"
    assert lines["max_jobs"] == f"file {file}"


def test_what_is_shipped_for_deployment_is_made_of_settings():
    found = configuration.load({}, {}, str(DEPLOY / "relaxon.toml")).settings
    assert found.encrypted
    assert found.authenticated
    unit = (DEPLOY / "relaxon.service").read_text()
    grace = int(re.search(r"TimeoutStopSec=(\d+)", unit).group(1))
    assert grace > found.grace_seconds
    options = re.findall(r"--([a-z-]+) ", unit[unit.index("ExecStart=") :].splitlines()[0])
    assert {one.replace("-", "_") for one in options} <= {*configuration.DEFAULTS, "config"}
    container = (DEPLOY / "Containerfile").read_text()
    environment = dict(re.findall(r"^ {4}(RELAXON_\w+)=(\S+)", container, re.M))
    assert len(environment) > 5
    settings = configuration.load({}, environment).settings
    assert settings.encrypted
    assert settings.authenticated


def test_a_missing_file_is_a_mistake_of_the_caller(tmp_path):
    command = [sys.executable, "-m", "relaxon", "serve", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "none.toml" in done.stderr


def test_the_table_of_settings_in_the_docs_is_what_their_fields_say():
    script = Path(__file__).parents[3] / "tools" / "settings_table.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("setting", fields(ServerSettings), ids=lambda setting: setting.name)
def test_every_setting_has_a_help_text_and_refuses_another_type_by_its_name(setting):
    assert setting.metadata["help"]
    with pytest.raises((TypeError, ValueError), match=f"^{setting.name} must be "):
        ServerSettings(**{setting.name: object()})
