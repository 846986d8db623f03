"""Programs from outside Python that the test bed starts, and the Debian packages they come in."""

import shutil
from dataclasses import dataclass
from pathlib import Path


class MissingProgramError(Exception):
    """A test needs a program that this machine does not have."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """An executable and where to get it."""

    #: The file name of the executable.
    name: str
    #: The Debian package that brings it.
    package: str
    #: A glob below / of folders that are not on PATH; the last match in order wins.
    folders: str | None = None
    #: What is on PATH is a wrapper that insists on a user of its own.
    wrapped: bool = False

    def find(self) -> Path | None:
        """The executable's path, or None where it is not installed."""
        if not self.wrapped and (on_path := shutil.which(self.name)):
            return Path(on_path)
        found = sorted(Path("/").glob(f"{self.folders}/{self.name}")) if self.folders else []
        return found[-1] if found else None

    def require(self) -> Path:
        """The executable's path.

        Raises:
            MissingProgramError: It is not installed; names every missing package, not only its own.
        """
        if path := self.find():
            return path
        raise MissingProgramError(
            f"{self.name} is not installed; {how_to_install(missing_packages())}"
        )


REDIS = Program(name="redis-server", package="redis-server")
JAVA = Program(name="java", package="default-jre-headless")
MAVEN = Program(name="mvn", package="maven")
INITDB = Program(name="initdb", package="postgresql", folders="usr/lib/postgresql/*/bin")
NODE = Program(name="node", package="nodejs")
NPM = Program(name="npm", package="npm")
PDFTOTEXT = Program(name="pdftotext", package="poppler-utils")
POSTGRES = Program(name="postgres", package="postgresql", folders="usr/lib/postgresql/*/bin")
RABBITMQ = Program(
    name="rabbitmq-server", package="rabbitmq-server", folders="usr/lib/rabbitmq/bin", wrapped=True
)
RABBITMQCTL = Program(
    name="rabbitmqctl", package="rabbitmq-server", folders="usr/lib/rabbitmq/bin", wrapped=True
)

#: Everything `python -m tests.servers.install` sees to. A new provider adds its line here.
PROGRAMS = (REDIS, INITDB, POSTGRES, PDFTOTEXT, NODE, NPM, JAVA, MAVEN, RABBITMQ, RABBITMQCTL)


def missing_packages() -> list[str]:
    """The Debian packages that are still to be installed, in alphabetical order."""
    return sorted({program.package for program in PROGRAMS if program.find() is None})


def how_to_install(packages: list[str]) -> str:
    """What to type to get these packages."""
    return (
        f"run `python -m tests.servers.install`, or as root: apt-get install {' '.join(packages)}"
    )
