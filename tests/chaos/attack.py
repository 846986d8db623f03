"""Strikes a site while messages are in flight, and remembers when."""

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from random import Random

from tests.chaos.faulty_api import BulkFault
from tests.chaos.plan import Blow
from tests.chaos.site import LEASE_SECONDS, Site
from tests.servers.process import ServerProcess
from tests.servers.process_family import is_alive
from tests.waiting import eventually


@dataclass(frozen=True)
class Interruption:
    """A blow, and when it fell, in seconds since the epoch."""

    at: float
    blow: Blow


class Attack:
    """Deals blows, each at a moment when some consumer holds messages.

    Args:
        site: What is struck.
        numbers: Draws victims and how long servers stay away.
    """

    def __init__(self, site: Site, numbers: Random) -> None:
        self._site = site
        self._numbers = numbers
        self.interruptions: list[Interruption] = []
        self._consumer, self._server = asyncio.Lock(), asyncio.Lock()

    @property
    def dealt(self) -> Counter[Blow]:
        """How many blows of each kind have really fallen."""
        done = self._site.api.done
        return Counter(one.blow for one in self.interruptions) + Counter(
            {
                Blow.DROP_ANSWER: done[BulkFault.ANSWER_DROPPED],
                Blow.FAIL_BULK: done[BulkFault.POISONED],
            }
        )

    async def strike(self, blow: Blow) -> None:
        """Deal one blow; a fault of a bulk call waits for the next such call.

        Any number may be asked for at once: one consumer is killed after the other, and one server
        is away at a time.
        """
        match blow:
            case Blow.DROP_ANSWER:
                self._site.api.arm(BulkFault.ANSWER_DROPPED)
            case Blow.FAIL_BULK:
                self._site.api.arm(BulkFault.POISONED)
            case Blow.KILL_CONSUMER:
                await self._kill()
            case Blow.RESTART_BROKER:
                await self._restart(self._broker(), blow)
            case Blow.RESTART_PREFECT:
                await self._restart(self._site.prefect, blow)
            case Blow.STALL_BROKER:
                await self._stall(self._broker(), blow)
            case Blow.CUT_CONNECTIONS:
                await self._cut()

    async def _kill(self) -> None:
        async with self._consumer:
            victim = self._numbers.choice(sorted(await self._in_flight()))
            self._note(Blow.KILL_CONSUMER)
            os.kill(victim, signal.SIGKILL)
            await eventually(lambda: not is_alive(victim), description="the victim to be dead")

    async def _restart(self, server: ServerProcess, blow: Blow) -> None:
        async with self._server:
            await self._in_flight()
            self._note(blow)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(self._numbers.uniform(0, 1))  # how long it is down
            await asyncio.to_thread(server.start)

    async def _stall(self, server: ServerProcess, blow: Blow) -> None:
        async with self._server:
            await self._in_flight()
            self._note(blow)
            server.stall()
            await asyncio.sleep(self._numbers.uniform(1.1, 2.5) * LEASE_SECONDS)
            server.resume()

    async def _cut(self) -> None:
        wire = self._site.broker.wire
        assert wire is not None, "the embedded broker has no wire"
        async with self._server:
            await self._in_flight()
            self._note(Blow.CUT_CONNECTIONS)
            await asyncio.to_thread(wire.cut)

    async def _in_flight(self) -> set[int]:
        """Wait until consumers hold messages, and return their process ids."""
        return await self._site.until(
            self._holders, description="a consumer that holds messages", interval=0.01
        )

    def _note(self, blow: Blow) -> None:
        self.interruptions.append(Interruption(time.time(), blow))

    async def _holders(self) -> set[int]:
        holders = self._site.journal.holders()
        return holders & self._site.consumers.living() if holders else set()

    def _broker(self) -> ServerProcess:
        assert self._site.broker.server is not None, "the embedded broker is no server"
        return self._site.broker.server
