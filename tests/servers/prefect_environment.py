"""The environment of everything of Prefect's that the test bed starts."""

import os
from pathlib import Path


def prefect_environment(home: Path) -> dict[str, str]:
    """This process's environment without its Prefect settings, plus those that tests rest on.

    Nothing phones home, no ephemeral server starts behind a test's back, and profiles, results and
    flow run storage stay below `home`.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {**kept, **prefect_settings(home), "PYTHONUNBUFFERED": "1"}


def prefect_settings(home: Path) -> dict[str, str]:
    """Only the settings, for a process whose environment is otherwise left alone."""
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    }
