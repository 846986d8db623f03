"""The full form: `make chaos`, or `python -m tests.chaos`; exits with 1 for a broken promise."""

import argparse
import asyncio
import logging
import secrets
import sys
from collections.abc import Sequence

from tests.chaos.figures import Figures, as_table
from tests.chaos.hand_over_under_fire import hand_over_plan, hand_over_under_fire
from tests.chaos.ledger_under_fire import ledger_plan, ledger_under_fire
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.postgres_server import PostgresServer


def main() -> int:
    """Carry everything out, print the figures, and say whether all of them are right."""
    options = _options()
    # The proxy says of each connection that a killed consumer leaves that it broke.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    _say(f"Seed {options.seed}: repeat with --seed {options.seed}")
    with PostgresServer() as server:
        handed_over = asyncio.run(_hand_over(options, server.databases))
        executed, repeats = asyncio.run(_execute(options, server.databases))
        server.databases.close()
    _say("", as_table(handed_over), "", as_table([executed]), "")
    _say("Repeats, and what explains them:", *(repeats or ["none"]), "")
    wrong = [line for one in (*handed_over, executed) for line in one.wrong]
    _say(*(wrong or ["All promises held."]))
    return 1 if wrong else 0


async def _hand_over(
    options: argparse.Namespace, databases: PostgresDatabases
) -> Sequence[Figures]:
    figures: list[Figures] = []
    for provider in ("redis", "embedded"):
        _say(f"{options.messages} messages on {provider} …")
        plan = hand_over_plan(provider, messages=options.messages, seed=options.seed)
        figures.append(await hand_over_under_fire(provider, plan, databases))
    return figures


async def _execute(
    options: argparse.Namespace, databases: PostgresDatabases
) -> tuple[Figures, Sequence[str]]:
    _say(f"{options.executed} executed runs …")
    plan = ledger_plan(messages=options.executed, seed=options.seed)
    return await ledger_under_fire(plan, databases)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000, help="handed over on each broker")
    parser.add_argument("--executed", type=int, default=50, help="messages whose runs execute")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), help="of moments and victims"
    )
    return parser.parse_args()


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join((*lines, "")))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
