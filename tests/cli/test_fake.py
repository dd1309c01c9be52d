"""`orrouter fake`: the fake upstream as a program."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace

import pytest

from orrouter.cli.fake import FakeOptions, greeting, line_of, named_in, prepared
from orrouter.testkit.faults import FAULTS
from orrouter.testkit.log import Seen

SEEN = Seen(
    number=0,
    at=0.0,
    wall=0.0,
    path="chat/completions",
    model="openai/gpt-4o",
    status=200,
    prompt_tokens=3,
    completion_tokens=60,
    true_cost_nano=607_500,
    finished="done",
)


def post(url: str, model: str) -> dict:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-test"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/chat/completions", body, headers), timeout=30) as reply:
        return json.load(reply)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_it_serves_until_it_is_interrupted(clean_env):
    """In a process of its own: it says where it listens, answers, tells each request, and ends well by Ctrl-C."""
    command = [sys.executable, "-u", "-m", "orrouter", "fake", "--port", "0", "--key", "sk-test"]
    with subprocess.Popen(command, env=clean_env, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[-1]
        before = [process.stdout.readline()]
        while "Ctrl-C" not in before[-1]:
            before.append(process.stdout.readline())
        assert "assistant" == post(url, "openai/gpt-4o")["choices"][0]["message"]["role"]
        told = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert 0 == process.returncode
    assert f"export OPENROUTER_BASE_URL={url} OPENROUTER_API_KEY=sk-test" in "".join(before)
    assert all(word in told for word in ("200", "chat/completions", "openai/gpt-4o", "whole"))
    assert "served 1 request\n" == rest


def test_a_port_that_is_taken_is_told(run):
    """It fails at once, and says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("fake", "--port", taken.getsockname()[1])
    assert 1 == result.exit_code
    assert "try --port 0" in result.stderr


def test_the_greeting_names_every_fault_with_what_it_does():
    """Whoever starts it sees what can go wrong, and how to ask for it."""
    text = "\n".join(line.text for line in greeting("http://127.0.0.1:1/api/v1", FakeOptions()))
    assert [] == [name for name in FAULTS if f"\n  {name} " not in text]
    assert "fault/NAME" in text
    assert "the provider is overloaded" in text


def test_always_arranges_what_goes_wrong():
    """`--always MODEL=FAULT` fails that model and no other."""
    with prepared(FakeOptions(port=0, always=["openai/gpt-4o=503"])) as fake:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            post(fake.url, "openai/gpt-4o")
        assert "openai/gpt-4o-mini" == post(fake.url, "openai/gpt-4o-mini")["model"]


@pytest.mark.parametrize("given", ["nonsense", "openai/gpt-4o=nonsense", "=503"])
def test_a_fault_that_is_none_is_wrong_usage(run, given):
    """A misspelt fault is found before anything listens."""
    assert 2 == run("fake", "--always", given).exit_code


def test_the_models_of_a_policy_are_served(tmp_path):
    """With `--policy` a chain can be tried out whatever it names."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "version: 1\n"
        "upstreams: {openrouter: {base_url: 'https://openrouter.ai/api/v1'}}\n"
        "policies: {default: [fallback: {models: [acme/new-one, openai/gpt-4o]}]}\n"
    )
    assert {"acme/new-one", "openai/gpt-4o"} == named_in(file)
    with prepared(FakeOptions(port=0, policy=file)) as fake:
        assert "acme/new-one" == post(fake.url, "acme/new-one")["model"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "200  chat/completions   openai/gpt-4o                     whole   3+60 tokens  $0.0006075"),
        ({"stream": True}, "  stream  "),
        ({"fault": "503", "status": 503}, "  fault 503"),
        ({"finished": "cut"}, "  cut"),
        ({"finished": "client_gone"}, "  client left"),
        ({"model": ""}, "(no model)"),
    ],
)
def test_a_request_is_told_on_one_line(change, told):
    """Status, model, form, tokens and cost; what went wrong stands last."""
    assert told in line_of(replace(SEEN, **change)).text
