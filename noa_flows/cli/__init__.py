"""The command `noa`: publish a job, follow it, look after the dead letters, check an installation.

Each command is a file. What goes wrong in a known way ends in one line and exit code 1.
"""

import sys

import typer

from blocks.errors import BrokerError
from noa_flows.cli.check import check
from noa_flows.cli.dead import dead
from noa_flows.cli.publish import publish
from noa_flows.cli.status import status
from noa_flows.errors import NoaError

app = typer.Typer(
    name="noa",
    help="Messages on a broker become Prefect flow runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(publish)
app.command()(status)
app.command()(check)
app.add_typer(dead, name="dead")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (NoaError, BrokerError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
