"""An Apache Kafka of the tests' own."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.servers.cache import cached
from tests.servers.certificates import Certificate
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.programs import JAVA, MAVEN

_VERSION: Final = "4.3.1"
_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>noa-flows</groupId>
  <artifactId>kafka-server</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
# A start in seconds counts for more here than the last bit of speed after an hour.
_JAVA_OPTIONS: Final = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_HOST: Final = "127.0.0.1"
_NAME = "noa"
PASSWORD: Final = "correct horse"
#: https://kafka.apache.org/documentation/#brokerconfigs
_SETTINGS: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.min.session.timeout.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # After a kill it is let in again only when it has been missed.
    "broker.session.timeout.ms": "2500",
    "broker.heartbeat.interval.ms": "250",
}
_PROTOCOLS: Final = {
    "CONTROLLER": "PLAINTEXT",
    "PLAINTEXT": "PLAINTEXT",
    "PROXIED": "PLAINTEXT",
    "SSL": "SSL",
    "LOGIN": "SASL_SSL",
}


class KafkaServer(ServerProcess):
    """Broker and controller in one process, on free loopback ports.

    Args:
        certificate: Opens two more entrances: `tls_port`, encrypted, and `login_port`, encrypted
            and with a log-in by SCRAM-SHA-256 or -512 as `noa` with `PASSWORD`.
        options: Further lines of the configuration.
        folder: Where data and log are kept.
    """

    def __init__(
        self,
        *,
        certificate: Certificate | None = None,
        options: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder=folder)
        self.port, self.tls_port, self.login_port = free_port(), free_port(), free_port()
        #: An entrance for a proxy, whose port is told to clients: set it before the start.
        self.back_port, self.proxy_port = free_port(), 0
        self.bootstrap = f"{_HOST}:{self.port}"
        self.url = f"kafka://{self.bootstrap}"
        self._controller_port = free_port()
        self._certificate = certificate
        self._options = options or {}

    def command(self) -> list[str]:
        libraries = kafka_libraries()
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._all().items()))
        if not (self.folder / "data").exists():
            self._format(libraries, properties)
        return [*_java(libraries), "kafka.Kafka", str(properties)]

    def ready(self) -> bool:
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return bool(client.list_topics(timeout=1).brokers)

    def _format(self, libraries: Path, properties: Path) -> None:
        users = [f"{kind}=[name={_NAME},password={PASSWORD}]" for kind in _MECHANISMS]
        logins = [word for user in users for word in ("--add-scram", user)]
        tool = ["kafka.tools.StorageTool", "format", "--cluster-id", "bm9hLWZsb3dzLXRlc3Rz"]
        subprocess.run(
            [*_java(libraries), *tool, "--config", str(properties), *logins],
            check=True,
            capture_output=True,
        )

    def _all(self) -> dict[str, str]:
        listeners = {"CONTROLLER": self._controller_port, "PLAINTEXT": self.port}
        security: dict[str, str] = {}
        if self.proxy_port:
            listeners["PROXIED"] = self.back_port
        if self._certificate:
            listeners |= {"SSL": self.tls_port, "LOGIN": self.login_port}
            security = self._security(self._certificate)
        return {
            **_SETTINGS,
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses(
                {
                    name: self.proxy_port if name == "PROXIED" else port
                    for name, port in listeners.items()
                    if name != "CONTROLLER"
                }
            ),
            "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in _PROTOCOLS.items()),
            "controller.quorum.voters": f"1@{_HOST}:{self._controller_port}",
            "log.dirs": str(self.folder / "data"),
            **security,
            **self._options,
        }

    def _security(self, certificate: Certificate) -> dict[str, str]:
        both = self.folder / "server.pem"
        both.write_bytes(certificate.key.read_bytes() + certificate.certificate.read_bytes())
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "sasl.enabled.mechanisms": ",".join(_MECHANISMS),
            **{
                f"listener.name.login.{kind.lower()}.sasl.jaas.config": login
                for kind in _MECHANISMS
            },
        }


_MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")


def kafka_libraries() -> Path:
    """The folder with Kafka's jars, fetched once from Maven Central."""
    with cached(f"kafka-{_VERSION}") as (folder, filled):
        if not filled:
            (folder / "pom.xml").write_text(_POM)
            copy = ["dependency:copy-dependencies", "-DoutputDirectory=libs"]
            subprocess.run(
                [str(MAVEN.require()), "--quiet", "--batch-mode", *copy], cwd=folder, check=True
            )
    return folder / "libs"


def _java(libraries: Path) -> Sequence[str]:
    return [str(JAVA.require()), *_JAVA_OPTIONS, "-cp", f"{libraries}/*"]


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{_HOST}:{port}" for name, port in listeners.items())
