"""Whether noa-flows works with the oldest and the newest Prefect that it allows.

`python -m tests.prefect_range` installs each into an environment of its own, and runs there the
tests that rest on Prefect's private parts the most.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.project import PROJECT

TESTS = ("tests/unit/test_prefect_internals.py", "tests/integration/test_warm_worker.py")
_PIP = ("-m", "pip", "--disable-pip-version-check")
_OFFERED = "Available versions:"
_LAST_OF_PIP = 12


def main() -> int:
    """Return 0 where all tests pass on both versions."""
    versions = sorted(allowed().filter(offered()))
    if not versions:
        sys.stderr.write(f"pip offers no Prefect that is {allowed()}.\n")
        return 1
    ends = dict.fromkeys([versions[0], versions[-1]])
    failed = [version for version in ends if not passes(version)]
    return 1 if failed else 0


def allowed() -> SpecifierSet:
    """The range of Prefect's versions in pyproject.toml."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    requirements = map(Requirement, project["dependencies"])
    return next(one.specifier for one in requirements if one.name == "prefect")


def offered() -> Sequence[Version]:
    """The versions that this Python could install."""
    command = [sys.executable, *_PIP, "index", "versions", "prefect"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if line.startswith(_OFFERED))
    return [Version(one) for one in line.removeprefix(_OFFERED).replace(",", " ").split()]


def passes(version: Version) -> bool:
    """Run the tests on this Prefect, and print how they ended."""
    with TemporaryDirectory(prefix=f"noa-prefect-{version}-") as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        done = install(version, Path(folder))
        if installed := done.returncode == 0:
            done = _run(python, "-m", "pytest", "--quiet", *TESTS)
    lines = done.stdout.splitlines() or ["nothing was said"]
    if done.returncode != 0:
        # Before it says what doesn't go together, pip tells of each package that it looks at.
        told = lines if installed else lines[-_LAST_OF_PIP:]
        sys.stdout.write("\n".join([*told, ""]))
    sys.stdout.write(f"Prefect {version}: {lines[-1] if installed else 'could not be installed'}\n")
    sys.stdout.flush()
    return done.returncode == 0


def install(version: Version, folder: Path) -> subprocess.CompletedProcess[str]:
    """Make an environment `venv` with the project, what its tests need, and this Prefect."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join([*_other_constraints(), f"prefect=={version}"]))
    options = ["--progress-bar", "off", "--constraint", constraints, "--editable"]
    return _run(folder / "venv" / "bin" / "python", *_PIP, "install", *options, f"{PROJECT}[dev]")


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=PROJECT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _other_constraints() -> Sequence[str]:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    return [line for line in wanted if Requirement(line).name != "prefect"]


if __name__ == "__main__":
    sys.exit(main())
