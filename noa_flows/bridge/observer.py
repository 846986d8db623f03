"""Who is told what a bridge does: the seam at which events and metrics are made."""

from typing import Protocol

from blocks.message import Dead, Delivery
from noa_flows.bridge.circuit_breaker import Circuit


class Observer(Protocol):
    """Is told of each thing when it has happened; must not raise, nor take long."""

    def dead_lettered(self, delivery: Delivery, verdict: Dead) -> None:
        """A message stands among the dead letters."""
        ...

    def circuit_changed(self, name: str, circuit: Circuit, why: str) -> None:
        """The way to `broker` or `prefect` has opened, is probed, or has closed again."""
        ...


class Unobserved:
    """An observer that looks away."""

    def dead_lettered(self, delivery: Delivery, verdict: Dead) -> None:
        """See `Observer.dead_lettered`."""

    def circuit_changed(self, name: str, circuit: Circuit, why: str) -> None:
        """See `Observer.circuit_changed`."""
