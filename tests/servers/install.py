"""Install what the tests need and this machine lacks: `python -m tests.servers.install`."""

import os
import subprocess
import sys

from tests.servers.programs import how_to_install, missing_packages

# Debian starts a freshly installed server at once unless it is told so. Where that cannot be kept
# from happening it does no harm: the test bed's servers never use the standard ports.
_ENVIRONMENT = ("DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")


def main() -> int:
    """Return 0 when nothing is missing any more, 1 when somebody with more rights has to act."""
    missing = missing_packages()
    if not missing:
        return 0
    root = _as_root()
    if root is None or not _install(root, missing):
        sys.stderr.write(f"The tests need {', '.join(missing)}: {how_to_install(missing)}\n")
        return 1
    return 0


def _as_root() -> list[str] | None:
    """What to put before a command to run it as root; None where that is not possible."""
    if os.geteuid() == 0:
        return ["env", *_ENVIRONMENT]
    try:
        subprocess.run(["sudo", "-n", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return ["sudo", "-n", "env", *_ENVIRONMENT]


def _install(root: list[str], packages: list[str]) -> bool:
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    try:
        subprocess.run([*root, "apt-get", "update", "--quiet"], check=True)
        subprocess.run([*root, *install], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return False
    return not missing_packages()


if __name__ == "__main__":
    sys.exit(main())
