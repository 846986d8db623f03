"""The full form: `make chaos`, or `python -m tests.chaos`; exits with 1 for a broken promise."""

import argparse
import asyncio
import logging
import secrets
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.brokers import PROVIDERS
from tests.chaos.figures import Figures, as_table
from tests.chaos.hand_over_under_fire import hand_over_plan, hand_over_under_fire
from tests.chaos.ledger_under_fire import ledger_plan, ledger_under_fire
from tests.chaos.workers_plan import PENDING_PATIENCE_SECONDS, WorkersPlan
from tests.chaos.workers_under_fire import workers_under_fire
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.postgres_server import PostgresServer

_PATIENCE_SECONDS = 1200


def main() -> int:
    """Carry everything out, print the figures, and say whether all of them are right."""
    options = _options()
    # The proxy says of each connection that a killed consumer leaves that it broke.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    _say(f"Seed {options.seed}: repeat with --seed {options.seed}")
    wrong: list[str] = []
    with PostgresServer() as server:
        for name in options.only or _SECTIONS:
            wrong += asyncio.run(_SECTIONS[name](options, server.databases))
        server.databases.close()
    _say(*(wrong or ["All promises held."]))
    return 1 if wrong else 0


async def _hand_over(options: argparse.Namespace, databases: PostgresDatabases) -> Sequence[str]:
    figures: list[Figures] = []
    for provider in options.provider or PROVIDERS:
        _say(f"{options.messages} messages on {provider} …")
        plan = hand_over_plan(provider, messages=options.messages, seed=options.seed)
        figures.append(await hand_over_under_fire(provider, plan, databases))
    _say("", as_table(figures), "")
    return [line for one in figures for line in one.wrong]


async def _execute(options: argparse.Namespace, databases: PostgresDatabases) -> Sequence[str]:
    _say(f"{options.executed} executed runs …")
    plan = ledger_plan(messages=options.executed, seed=options.seed)
    figures, repeats = await ledger_under_fire(plan, databases)
    _say("", as_table([figures]), "")
    _say("Repeats, and what explains them:", *(repeats or ["none"]), "")
    return figures.wrong


async def _workers(options: argparse.Namespace, databases: PostgresDatabases) -> Sequence[str]:
    _say(
        f"{options.struck} runs on warm workers, {options.kills} kills …",
        f"(a run whose worker died before it began goes back to its queue after "
        f"{PENDING_PATIENCE_SECONDS} s here, instead of 10 minutes)",
    )
    plan = WorkersPlan(
        messages=options.struck,
        kills=options.kills,
        seed=options.seed,
        away_seconds=options.away,
        patience_seconds=_PATIENCE_SECONDS,
    )
    figures, breaches, repeats = await workers_under_fire(plan, databases, folder=options.keep)
    _say("", as_table([figures]), "")
    _say("Runs that were executed more than once:", *(repeats or ["none"]), "")
    return [*breaches, *figures.wrong]


_SECTIONS: Mapping[
    str, Callable[[argparse.Namespace, PostgresDatabases], Coroutine[Any, Any, Sequence[str]]]
] = {"hand-over": _hand_over, "ledger": _execute, "workers": _workers}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000, help="handed over on each broker")
    parser.add_argument("--provider", action="append", choices=PROVIDERS, help="one of them")
    parser.add_argument("--executed", type=int, default=50, help="messages whose runs execute")
    parser.add_argument("--struck", type=int, default=500, help="runs of the workers that die")
    parser.add_argument("--kills", type=int, default=50, help="of workers and their processes")
    parser.add_argument("--away", type=float, default=60, help="seconds without Prefect's server")
    parser.add_argument("--keep", type=Path, help="a new folder for the workers' ledger and logs")
    parser.add_argument("--only", action="append", choices=_SECTIONS, help="a part of it all")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), help="of moments and victims"
    )
    return parser.parse_args()


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join((*lines, "")))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
