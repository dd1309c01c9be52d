"""`orrouter check`: everything that is wrong or unwise in policies."""

from __future__ import annotations

import pytest

KEY = {"OPENROUTER_BASE_URL": "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY": "sk-or-v1-0123456789"}


def test_a_policy_without_fault_exits_0(run, policy):
    """Nothing to say is said."""
    result = run("check", policy, env=KEY)
    assert (0, f"{policy}: well formed, nothing to say\n") == (result.exit_code, result.stdout)


def test_an_error_is_told_with_its_place_and_exits_2(run, policy):
    """The line names file, line and column, and what would be right."""
    policy.write_text(policy.read_text().replace("attempts", "atempts"))
    result = run("check", policy, env=KEY)
    assert 2 == result.exit_code
    assert [f"{policy}:9:15: error: retry has no 'atempts'; did you mean 'attempts'?", f"{policy}: 1 error"] == (
        result.stdout.splitlines()
    )


def test_warnings_alone_exit_0(run, policy):
    """A variable that is not set yet is worth a warning, and no failure."""
    result = run("check", policy, env={"OPENROUTER_BASE_URL": KEY["OPENROUTER_BASE_URL"], "OPENROUTER_API_KEY": None})
    assert 0 == result.exit_code
    assert "warning: the environment has no OPENROUTER_API_KEY" in result.stdout
    assert f"{policy}: 1 warning\n" in result.stdout


def test_every_file_is_checked_though_one_is_wrong(run, policy, tmp_path):
    """One bad policy does not hide the next one."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 2\n")
    result = run("check", bad, policy, env=KEY)
    assert 2 == result.exit_code
    assert f"{bad}: 1 error" in result.stdout
    assert f"{policy}: well formed" in result.stdout


def test_the_file_may_be_named_by_its_option(run, policy):
    """`--policy FILE` names the file here as in every other command."""
    assert run("check", policy, env=KEY).stdout == run("check", "--policy", policy, env=KEY).stdout


@pytest.mark.parametrize("args", [(), ("/nowhere/policy.yaml",)])
def test_no_file_exits_2(run, args):
    """Neither nothing nor a file that is not there can be checked."""
    assert 2 == run("check", *args).exit_code
