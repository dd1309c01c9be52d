"""`orrouter init`: a policy to begin with."""

from __future__ import annotations

import pytest

from orrouter.cli.init import Template
from orrouter.policy.load import load_file
from orrouter.policy.schema import read_policy


@pytest.mark.parametrize("template", list(Template))
def test_every_template_is_a_policy_without_fault(run, tmp_path, template):
    """What is written can be used as it is: `check` finds no error and no warning."""
    target = tmp_path / "mine.yaml"
    assert 0 == run("init", target, "--template", template.value).exit_code
    checked = run("check", target, env={"OPENROUTER_API_KEY": "sk-or-v1-0123456789"})
    assert (0, f"{target}: well formed, nothing to say\n") == (checked.exit_code, checked.stdout)


def test_the_templates_differ(run, tmp_path):
    """Each template is a policy of its own."""
    for template in Template:
        run("init", tmp_path / template.value, "--template", template.value)
    assert len(Template) == len({path.read_text() for path in tmp_path.iterdir()})


def test_the_examples_in_it_name_the_file_itself(run, tmp_path):
    """The comments speak of the file where it stands now, and of no schema that is not beside it."""
    target = tmp_path / "mine.yaml"
    run("init", target)
    assert f"orrouter check   {target}" in target.read_text()
    assert "policy.schema.json" not in target.read_text()


def test_the_comments_come_along(run, tmp_path):
    """A policy to begin with explains itself."""
    target = tmp_path / "mine.yaml"
    run("init", target)
    assert 10 < sum("#" in line for line in target.read_text().splitlines())


def test_a_file_that_is_there_is_kept(run, tmp_path):
    """Nothing is lost: without --force the command fails and says how to go on."""
    target = tmp_path / "mine.yaml"
    target.write_text("precious")
    result = run("init", target)
    assert (1, "precious") == (result.exit_code, target.read_text())
    assert "say --force" in result.stderr


def test_force_overwrites(run, tmp_path):
    """Who says --force means it."""
    target = tmp_path / "mine.yaml"
    target.write_text("old")
    assert 0 == run("init", target, "--force").exit_code
    assert "default" in read_policy(load_file(target, env={})).stacks


def test_the_file_may_be_named_by_its_option(run, tmp_path):
    """`--policy FILE` names the file here as in every other command."""
    target = tmp_path / "mine.yaml"
    assert 0 == run("init", "--policy", target).exit_code
    assert target.exists()


def test_a_folder_that_is_not_there_is_told(run, tmp_path):
    """What cannot be written is said, with the reason."""
    result = run("init", tmp_path / "nowhere" / "mine.yaml")
    assert 1 == result.exit_code
    assert "cannot be written: No such file or directory" in result.stderr


def test_an_unknown_template_is_wrong_usage(run, tmp_path):
    """The templates that there are stand in the message."""
    result = run("init", tmp_path / "x.yaml", "--template", "lavish")
    assert 2 == result.exit_code
    assert "frugal" in result.stderr


def test_init_check_and_explain_run_as_programs(shell, tmp_path):
    """From nothing to a policy that is checked and explained, each in a process of its own."""
    (tmp_path / "run").mkdir()
    assert 0 == shell("init", cwd=tmp_path / "run").returncode
    assert 0 == shell("check", "orrouter.yaml", cwd=tmp_path / "run").returncode
    explained = shell("explain", "orrouter.yaml", cwd=tmp_path / "run")
    assert 0 == explained.returncode
    assert "policy default" in explained.stdout
