"""Processes that share a ledger, born quickly and killed at any moment.

Run as a script it forks a child for each order on its standard input. Every child writes into one pipe what it is
about to spend, before it "sends" anything: that is the far end's own log, and it outlives the child.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from orrouter.core.errors import BudgetExceeded  # noqa: E402  # run as a script it first has to find the package
from orrouter.core.limit import Account  # noqa: E402  # run as a script it first has to find the package
from orrouter.ledger.base import Hold, new_hold_id  # noqa: E402  # run as a script it first has to find the package
from orrouter.ledger.sqlite import SqliteLedger  # noqa: E402  # run as a script it first has to find the package


class Nursery:
    """The test's end: bears children, hears what they spend, kills them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log, far = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(far)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[far],
        )  # fmt: skip
        os.close(far)
        self._rest = b""
        self.spent: dict[str, int] = {}
        """By hold, what was or may have been sent."""
        self.settled = 0
        """What was sent and is known to be settled, and no more in `spent`."""
        self.owners: dict[int, str] = {}
        """The owner's name of each child that is alive."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in list(self.owners):
            self.kill(child)
        self._process.communicate()
        os.close(self.log)

    def _order(self, **order: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def bear(self, do: str, **options: object) -> int:
        """A child that does something with the ledger; it has opened it when this returns."""
        child = int(self._order(do=do, path=str(self.path), **options))
        self.owners[child] = ""
        while not self.owners[child]:
            self.hear(1)
        return child

    def kill(self, child: int) -> None:
        """`kill -9`, and wait until nothing of it is left."""
        assert "dead" == self._order(do="kill", child=child)
        del self.owners[child]

    def hear(self, lines: int) -> None:
        """Wait for so many lines of the log, and take in what there is."""
        while lines > 0:
            content = self._rest + os.read(self.log, 1 << 20)
            *whole, self._rest = content.split(b"\n")
            lines -= len(whole)
            for line in whole:
                self._note(*line.decode().split())

    def hear_all(self) -> None:
        """Take in what there is now."""
        os.set_blocking(self.log, False)
        try:
            self.hear(1 << 30)
        except BlockingIOError:
            pass
        finally:
            os.set_blocking(self.log, True)

    def _note(self, word: str, value: str) -> None:
        if word.startswith("pid:"):
            self.owners[int(word[4:])] = value
        else:
            self.spent[word] = int(value)


def account(name: str, limit: int) -> Account:
    return Account(name, (("lifetime", limit),))


def accounts(options: dict[str, object]) -> tuple[Account, ...]:
    limits: dict[str, int] = options["limits"]  # type: ignore[assignment]
    return tuple(account(name, limit) for name, limit in limits.items())


async def spend(ledger: SqliteLedger, log: int, options: dict[str, object]) -> None:
    """Tasks that reserve, send, and settle at the full amount until nothing is left."""
    chance, payers = random.Random(str(options["seed"])), accounts(options)

    async def task() -> None:
        while True:
            one = Hold(new_hold_id(), chance.randint(1, 100), payers)
            try:
                await ledger.reserve(one)
            except BudgetExceeded:
                return
            os.write(log, f"{one.id} {one.amount}\n".encode())
            await asyncio.sleep(0)
            ledger.settle(one.id, one.amount)

    await asyncio.gather(*(task() for _ in range(50)))
    await ledger.aclose()
    os.write(log, f"pid:{os.getpid()} done\n".encode())


async def live(ledger: SqliteLedger, log: int, options: dict[str, object]) -> None:
    """Tasks that reserve, and then send or not, and then tell the end or not, for ever."""
    chance, payers = random.Random(str(options["seed"])), accounts(options)

    async def task() -> None:
        while True:
            one = Hold(new_hold_id(), chance.randint(1, 1000), payers[: chance.randint(1, len(payers))])
            try:
                await ledger.reserve(one)
            except BudgetExceeded:
                continue
            what = chance.random()
            if what < 0.1:
                ledger.release(one.id)
                continue
            cost = chance.randint(0, one.amount)
            os.write(log, f"{one.id} {cost}\n".encode())
            ledger.identify(one.id, f"gen-{one.id}")
            await asyncio.sleep(chance.random() * 0.01)
            if what < 0.8:
                ledger.settle(one.id, cost)
            elif what < 0.9:
                ledger.suspend(one.id, "left")

    await asyncio.gather(*(task() for _ in range(8)))


async def grip(ledger: SqliteLedger, log: int, options: dict[str, object]) -> None:
    """Holds once, and then stands still."""
    await ledger.reserve(Hold("hold_gripped", 100, accounts(options)))
    os.write(log, b"hold_gripped 100\n")
    parent = os.getppid()
    while parent == os.getppid():  # Should the test be killed, nobody is left behind.
        await asyncio.sleep(0.1)


async def child(log: int, options: dict[str, object]) -> None:
    ledger = SqliteLedger(Path(str(options["path"])), time.time)
    await ledger.open()
    os.write(log, f"pid:{os.getpid()} {ledger.owner}\n".encode())
    await {"spend": spend, "live": live, "grip": grip}[str(options["do"])](ledger, log, options)


def say(answer: str) -> None:
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


def main(log: int) -> None:
    """Bear and kill as ordered."""
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "kill":
            os.kill(order["child"], signal.SIGKILL)
            os.waitpid(order["child"], 0)
            say("dead")
        elif born := os.fork():
            say(str(born))
        else:
            asyncio.run(child(log, order))
            os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
