"""The demo: real orders, published as messages, become a PDF and an Excel report."""

import csv
import gzip
import json
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

#: Runs a command for the installation, and returns what it printed.
Run = Callable[[list[str]], str]

_DEADLINE_SECONDS: Final = 90
_ORDERS: Final = 48
_COLUMNS: Final = {
    "State": "state",
    "Segment": "segment",
    "Sub-Category": "product",
    "Ship Mode": "shipping",
    "Quantity": "quantity",
    "Sales": "sales",
    "Profit": "profit",
}
_NUMBERS: Final = {"quantity": int, "sales": float, "profit": float}


def show(run: Run) -> None:
    """Publish two reports, wait for their runs, and print what became of them.

    Raises:
        RuntimeError: A run did not complete in time.
    """
    orders = read_orders()
    jobs = {kind: _publish(run, kind, orders) for kind in ("pdf", "excel")}
    for kind, job_id in jobs.items():
        entry = _wait(run, job_id)
        result = entry["result"]
        print(f"\n{kind.upper()} report of {result['rows']} orders, {result['bytes']:,} bytes")
        print(f"  file   {result['path']}")
        print(f"  run    {entry['run']}")
        print(f"  state  {entry['state']}")
        print(f"  link   {entry['link']}")
    print()


def read_orders() -> list[dict[str, Any]]:
    """Read furniture orders of the West from Superstore, a public sample of a retailer's data."""
    archive = files("bokeh_sampledata") / "_data" / "SampleSuperstore.csv.gz"
    with archive.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as text:
        rows = [
            _order(row)
            for row in csv.DictReader(text)
            if (row["Region"], row["Category"]) == ("West", "Furniture")
        ]
    return rows[:_ORDERS]


def _order(row: dict[str, str]) -> dict[str, Any]:
    order: dict[str, Any] = {ours: row[theirs] for theirs, ours in _COLUMNS.items()}
    return order | {name: kind(order[name]) for name, kind in _NUMBERS.items()}


def _publish(run: Run, kind: str, orders: list[dict[str, Any]]) -> str:
    """Publish as any producer would, with the command line, and return the job's id."""
    payload = {
        "type": kind,
        "template": "monthly-report",
        "title": "Furniture orders, West",
        "data": orders,
    }
    command = [_noa(), "publish", "report", "--data", json.dumps(payload)]
    job_id = run(command).strip()
    print(f"Published a message for the {kind} report: job {job_id}")
    return job_id


def _wait(run: Run, job_id: str) -> dict[str, Any]:
    command = [_noa(), "status", job_id, "--json", "--wait", str(_DEADLINE_SECONDS)]
    (entry,) = json.loads(run(command))
    if entry["state"] != "Completed":
        raise RuntimeError(f"job {job_id} ended as {entry['state']}: {entry['message']}")
    return entry


def _noa() -> str:
    return str(Path(sys.executable).parent / "noa")
