"""The demo: it shows twelve things, and it cannot lie."""

from __future__ import annotations

import pytest

from orrouter.cli.demo import WIDTH, perform
from orrouter.cli.scenes import POLICY, SCENES

SCREEN = 54


def test_it_shows_everything_on_one_screen(shell):
    """In a process of its own: every scene goes well, within one screen of lines."""
    ran = shell("demo")
    lines = ran.stdout.splitlines()
    assert (0, "") == (ran.returncode, ran.stderr)
    assert [scene.title for scene in SCENES] == [line[7:22].strip() for line in lines if line.startswith("ok ")]
    assert "12 of 12 scenes went as they should" in ran.stdout
    assert SCREEN >= len(lines)
    assert WIDTH >= max(map(len, lines))


def test_it_needs_no_key_and_takes_none(shell):
    """A key in the environment is not used: nothing leaves this machine."""
    ran = shell("demo", env={"OPENROUTER_API_KEY": "sk-or-v1-canary", "OPENROUTER_BASE_URL": "http://nowhere.invalid"})
    assert 0 == ran.returncode
    assert "sk-or-v1-canary" not in ran.stdout + ran.stderr


async def test_the_record_of_the_last_call_is_shown(capsys):
    """The table tells the skip, the wait, the fallback and the answer of one call."""
    assert 0 == await perform(SCENES[-2:], POLICY)
    told = " ".join(capsys.readouterr().out.split())
    assert all(
        word in told
        for word in ("skipped anthropic/claude-sonnet-4.5", "rate_limited: asks again", "goes on to google/", "200 ok")
    )


def without(layer: str) -> str:
    """The demo's policy without one of its layers."""
    return "".join(line for line in POLICY.splitlines(keepends=True) if not line.strip().startswith(f"- {layer}:"))


HOLDING = POLICY.replace("fallback: {", "fallback: {hold: 50, ")


@pytest.mark.parametrize(
    ("title", "policy"),
    [
        ("retry", without("retry")),
        ("fallback", without("fallback")),
        ("hidden error", without("retry")),
        ("dead stream", without("fallback")),
        ("broken stream", HOLDING),
        ("breaker", without("breaker")),
        ("all at once", POLICY),  # alone: no breaker has been opened before
    ],
)
async def test_a_scene_that_goes_otherwise_says_so(title, policy, capsys):
    """Take away what a scene shows, and it does not claim to show it: WRONG, what happened instead, and exit 1."""
    (scene,) = [one for one in SCENES if one.title == title]
    assert 1 == await perform([scene], policy)
    told = capsys.readouterr().out
    assert "WRONG" in told
    assert "it went otherwise:" in told
    assert "0 of 1 scenes went as they should" in told


@pytest.mark.parametrize(
    ("title", "wrong"),
    [
        ("cost cap", "- cost_cap: {per_call: $0.50}"),
        ("budget", '- budget: {account: "team:{team}", limits: {day: $1}}'),
    ],
)
async def test_a_scene_about_money_needs_its_layer(title, wrong, capsys):
    """Without the budget nothing is refused; the cap of a call needs no layer, and is shown all the same."""
    (scene,) = [one for one in SCENES if one.title == title]
    policy = "".join(line for line in POLICY.splitlines(keepends=True) if line.strip() != wrong)
    assert policy != POLICY
    expected = 0 if title == "cost cap" else 1
    assert expected == await perform([scene], policy)
    assert ("WRONG" in capsys.readouterr().out) == bool(expected)
