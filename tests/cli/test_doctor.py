"""`orrouter doctor`: what is installed, configured and reachable."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.cli.doctor import NEEDED, OLD_DAYS, catalog, judged


def test_all_is_well_exits_0(run, env):
    """Versions, the policy, the key and the upstream, each with its line."""
    result = run("doctor", env=env)
    told = " ".join(result.stdout.split())
    assert 0 == result.exit_code
    assert all(name in told for name in ("python", "openssl", "sqlite", "model list", *NEEDED))
    assert "yes openrouter answers the key is accepted" in told
    assert told.endswith("all is well")


def test_a_key_that_is_refused_exits_1(run, env, fake_openrouter):
    """The upstream's own words say why."""
    from orrouter.testkit.server import FakeOpenRouter

    with FakeOpenRouter.in_thread(keys=["another"]) as strict:
        result = run("doctor", env=env | {"OPENROUTER_BASE_URL": strict.url})
    assert 1 == result.exit_code
    assert "no openrouter answers auth_failed: User not found." in " ".join(result.stdout.split())


def test_an_upstream_that_is_not_there_exits_1(run, env, fake_openrouter):
    """Nobody listens: the line says so."""
    fake_openrouter.pause()
    result = run("doctor", env=env)
    fake_openrouter.resume()
    assert 1 == result.exit_code
    assert "connection_failed" in result.stdout


def test_no_key_in_the_environment_exits_1(run):
    """What is missing is named, and the rest is told all the same."""
    result = run("doctor", env={"OPENROUTER_API_KEY": None})
    assert 1 == result.exit_code
    assert "the environment has no OPENROUTER_API_KEY" in result.stdout
    assert "aiohttp" in result.stdout


def test_a_wrong_policy_exits_2(run, env, tmp_path):
    """A policy that was named and cannot be used is told with its place."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 2\n")
    result = run("doctor", "--policy", bad, env=env)
    assert 2 == result.exit_code
    assert f"{bad}:1:10" in result.stdout


def test_no_key_and_no_password_is_printed(run, env, fake_openrouter):
    """Of a key it says whether there is one; of an address, where it leads."""
    address = fake_openrouter.url.replace("http://", "http://user:hunter2@")
    result = run("doctor", env=env | {"OPENROUTER_BASE_URL": address})
    assert env["OPENROUTER_API_KEY"] not in result.output
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("installed", "state"),
    [("3.14.3", "ok"), ("3.14.10", "ok"), ("4.0", "ok"), ("3.14.2", "wrong"), ("3.9.9", "wrong"), (None, "wrong")],
)
def test_a_package_is_judged_by_its_numbers(installed, state):
    """3.14.10 is newer than 3.14.3, and what is not there is wrong."""
    assert state == judged("aiohttp", installed, (3, 14, 3)).state


def test_what_is_needed_agrees_with_what_is_installed_by_pip():
    """The lowest versions that are looked for are those that the package itself asks for."""
    import re
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    asked = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", one).groups() for one in project["dependencies"])
    assert asked == {name: ".".join(map(str, least)) for name, least in NEEDED.items()}


def test_an_old_list_of_models_is_called_old():
    """Prices change: the list that ships says when it is old, and that is no failure."""
    day = date.fromisoformat(Catalog().as_of)
    assert "it is old" not in catalog(day + timedelta(days=OLD_DAYS)).told
    assert "it is old" in catalog(day + timedelta(days=OLD_DAYS + 1)).told
    assert "note" == catalog(day + timedelta(days=999)).state
