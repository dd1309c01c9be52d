"""`orrouter chat` against the fake upstream."""

from __future__ import annotations

import base64
import json

import pytest

MODEL = "openai/gpt-4o"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


@pytest.fixture
def ask(run, env):
    """Asks the fake upstream without a policy file."""
    return lambda *args, **more: run("chat", *args, "--model", MODEL, env=env, **more)


def test_the_answer_alone_stands_on_standard_output(ask, fake_openrouter):
    """What is said about the answer goes to stderr: the output can be piped."""
    fake_openrouter.say(MODEL, "Good day.")
    result = ask("Hello")
    assert (0, "Good day.\n") == (result.exit_code, result.stdout)
    assert f"{MODEL} via OpenAI · " in result.stderr
    assert " · 1 try" in result.stderr


def test_system_prompt_tokens_and_model_are_sent(ask, fake_openrouter):
    """What the options say is what the upstream gets."""
    ask("Hello", "--system", "Be brief.", "--max-tokens", "7")
    body = fake_openrouter.requests[0].body
    assert (MODEL, 7) == (body["model"], body["max_tokens"])
    assert [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}] == body["messages"]


def test_a_dash_reads_standard_input(ask, fake_openrouter):
    """A long prompt comes from a file or a pipe."""
    ask("-", typed="From a pipe")
    assert "From a pipe" == fake_openrouter.requests[0].body["messages"][0]["content"]


def test_pictures_stand_behind_the_question(ask, fake_openrouter, tmp_path):
    """A file becomes a data URL, an address stays one; both may be given."""
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    ask("What is it?", "--image", picture, "--image", "https://example.com/b.png")
    assert [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/b.png"}},
    ] == fake_openrouter.requests[0].body["messages"][0]["content"]


@pytest.mark.parametrize(
    "args", [("",), ("-",), ("x", "--image", "/nowhere/a.png"), ("x", "--max-tokens", "0"), ("bad \udce4 text",)]
)
def test_what_cannot_be_asked_is_wrong_usage(ask, fake_openrouter, args):
    """An empty prompt, a picture that is not there, text that is no text: exit 2, and nothing is sent."""
    assert 2 == ask(*args).exit_code
    assert () == fake_openrouter.requests


def test_json_is_the_apis_own_answer(ask, fake_openrouter):
    """The output is one JSON value, and stderr is silent."""
    fake_openrouter.say(MODEL, "Good day.")
    result = ask("Hello", "--json")
    answer = json.loads(result.stdout)
    assert "Good day." == answer["choices"][0]["message"]["content"]
    assert "record" not in answer
    assert "" == result.stderr


def test_json_with_record_holds_both(ask, fake_openrouter):
    """The record stands beside the answer, each try with its outcome."""
    fake_openrouter.script(MODEL, ["429:0", "ok"])
    answer = json.loads(ask("Hello", "--json", "--record").stdout)
    assert ["rate_limited", "ok"] == [one["outcome"] for one in answer["record"]["attempts"]]


def test_the_record_is_printed_on_demand(ask, fake_openrouter):
    """`--record` shows every try and what was decided between them, on stderr."""
    fake_openrouter.script(MODEL, ["429:0", "ok"])
    result = ask("Hello", "--record")
    assert all(word in result.stderr for word in ("rate_limited: asks again", "ok after 2 tries", "request req_"))
    assert "req_" not in result.stdout


def test_a_stream_says_the_same_as_a_whole_answer(ask, fake_openrouter):
    """`--stream` changes how the answer comes, and not what it is."""
    fake_openrouter.say(MODEL, "One two three four five.")
    result = ask("Hello", "--stream")
    assert (0, "One two three four five.\n") == (result.exit_code, result.stdout)
    assert True is fake_openrouter.requests[0].stream


def test_a_stream_as_json_is_one_chunk_a_line(ask, fake_openrouter):
    """Each line is a chunk of the API; together they say the answer; the record is the last line."""
    fake_openrouter.say(MODEL, "One two three.")
    *chunks, last = [json.loads(line) for line in ask("Hello", "--stream", "--json", "--record").stdout.splitlines()]
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert "One two three." == "".join(said)
    assert "ok" == last["record"]["outcome"]


def test_a_stream_that_breaks_keeps_what_was_said_and_exits_1(ask, fake_openrouter):
    """What was said stands on the output, with its line ended; stderr says that it is not all."""
    fake_openrouter.say(MODEL, "One two three four five six.")
    fake_openrouter.always(MODEL, "cut_mid:3")
    result = ask("Hello", "--stream")
    assert (1, "One two three\n") == (result.exit_code, result.stdout)
    assert "error: stream_broken" in result.stderr


def test_a_call_that_fails_exits_1_and_says_what_to_do(ask, fake_openrouter):
    """The error stands on stderr with its place and an advice, and nothing on the output."""
    fake_openrouter.always(MODEL, "402_credits")
    result = ask("Hello")
    assert (1, "") == (result.exit_code, result.stdout)
    assert "error: credits_exhausted" in result.stderr
    assert " help: add credits" in result.stderr


def test_a_failure_as_json_is_json_as_well(ask, fake_openrouter):
    """A program that reads the output finds the error there."""
    fake_openrouter.always(MODEL, "403_moderation")
    result = ask("Hello", "--json", "--record")
    told = json.loads(result.stdout)
    assert (1, "moderated", 403) == (result.exit_code, told["error"]["code"], told["error"]["status"])
    assert ["moderated"] == [one["outcome"] for one in told["record"]["attempts"]]


def test_a_failure_with_record_shows_every_try(ask, fake_openrouter):
    """The record is most wanted when it went wrong."""
    fake_openrouter.always(MODEL, "402_credits")
    assert "credits_exhausted after 1 try" in ask("Hello", "--record").stderr


def test_a_policy_file_decides_how_it_is_asked(run, env, policy, fake_openrouter):
    """With `--policy` the chain of the file is used."""
    fake_openrouter.always(MODEL, "503")
    result = run("chat", "Hello", "--policy", policy, env=env)
    assert 0 == result.exit_code
    assert "openai/gpt-4o-mini via OpenAI" in result.stderr


@pytest.mark.parametrize("args", [(), ("--policy", "/nowhere/policy.yaml")])
def test_without_a_key_or_with_a_wrong_policy_it_exits_2(run, args):
    """A missing key and a policy that is not there are nobody's failure but the setting's."""
    result = run("chat", "Hello", *args, env={"OPENROUTER_API_KEY": None})
    assert 2 == result.exit_code
    assert result.stderr.startswith("error: ")


def test_facts_are_logged_on_demand(ask, fake_openrouter):
    """`--log json` writes one line for each fact to stderr."""
    fake_openrouter.script(MODEL, ["429:0", "ok"])
    lines = ask("Hello", "--log", "json").stderr.splitlines()[:-1]
    events = [json.loads(line)["event"] for line in lines]
    assert ("orrouter.call_started", "orrouter.call_ended") == (events[0], events[-1])
    assert "orrouter.retry_scheduled" in events


@pytest.mark.parametrize(
    ("fault", "told"), [("refusal_output", "I can't help with that."), ("length_empty", '"role": "assistant"')]
)
def test_an_answer_without_text_is_shown_all_the_same(ask, fake_openrouter, fault, told):
    """A refusal is told in its words; a message without any is shown as it came."""
    fake_openrouter.always(MODEL, fault)
    result = ask("Hello")
    assert 0 == result.exit_code
    assert told in result.stdout


def test_the_key_is_never_printed(ask, fake_openrouter, env):
    """Whatever fails, and however much is asked for, the key stays out of the output."""
    for fault in ("401", "503", "cut_mid:2", "ok"):
        fake_openrouter.always(MODEL, fault)
        result = ask("Hello", "--record", "--json", "--log", "console")
        assert env["OPENROUTER_API_KEY"] not in result.output


def test_it_runs_as_a_program(shell, env, fake_openrouter):
    """In a process of its own: the answer on the output, and exit code 0."""
    fake_openrouter.say(MODEL, "Grüße, 世界 🎉")
    ran = shell("chat", "Hello", "--model", MODEL, env=env)
    assert (0, "Grüße, 世界 🎉\n") == (ran.returncode, ran.stdout)


def test_a_stream_as_json_runs_as_a_program(shell, env, fake_openrouter):
    """In a process of its own, each line of the output is one chunk."""
    fake_openrouter.say(MODEL, "One two three.")
    ran = shell("chat", "Hello", "--model", MODEL, "--stream", "--json", env=env)
    chunks = [json.loads(line) for line in ran.stdout.splitlines()]
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert (0, "One two three.") == (ran.returncode, "".join(said))


def test_an_answer_that_the_output_cannot_spell_is_printed_as_far_as_it_can(shell, env, fake_openrouter):
    """A terminal in ASCII gets question marks, and no traceback."""
    fake_openrouter.say(MODEL, "Grüße")
    ran = shell("chat", "Hello", "--model", MODEL, env=env | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (0, "Gr??e\n") == (ran.returncode, ran.stdout)


def test_a_tag_and_a_cap_of_the_call(run, tmp_path, fake_openrouter):
    """An account that a tag names is charged, and what is too dear is refused."""
    file = tmp_path / "p.yaml"
    file.write_text(
        f"version: 1\nupstreams:\n  openrouter:\n    base_url: {fake_openrouter.url}\n    api_key: ${{OPENROUTER_API_KEY}}\n"
        'policies:\n  default:\n    - budget: {account: "team:{team}", limits: {day: $5}}\n'
        "    - fallback: {models: [openai/gpt-4o]}\n"
    )
    env = {"OPENROUTER_API_KEY": "sk-or-v1-0123456789"}
    assert 1 == run("chat", "Hello", "--policy", file, env=env).exit_code
    assert 0 == run("chat", "Hello", "--policy", file, "--tag", "team=a", env=env).exit_code
    refused = run("chat", "Hello", "--policy", file, "--tag", "team=a", "--max-cost", "$0.00001", env=env)
    assert (1, True) == (refused.exit_code, "cost_cap_exceeded" in refused.stderr)
