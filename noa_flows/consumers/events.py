"""What a consumer tells Prefect's event feed, for automations and for people."""

from prefect.events import emit_event

from blocks.message import Dead, Delivery
from noa_flows.bridge.circuit_breaker import Circuit
from noa_flows.bridge.route import Route

_LONGEST_TEXT = 1000


class ConsumerEvents:
    """A bridge's observer that emits events of the resource `noa.queue.<provider>.<queue>`."""

    def __init__(self, route: Route) -> None:
        provider = route.provider.removesuffix("-broker")
        self._resource = {
            "prefect.resource.id": f"noa.queue.{provider}.{route.queue}",
            "prefect.resource.name": route.queue,
        }

    def dead_lettered(self, delivery: Delivery, verdict: Dead) -> None:
        """Emit `noa.message.dead-lettered`, with `message`, `reason`, `error`, `deliveries`."""
        self._emit(
            "noa.message.dead-lettered",
            message=delivery.id,
            reason=verdict.reason,
            error=verdict.error[:_LONGEST_TEXT],
            deliveries=delivery.deliveries,
        )

    def circuit_changed(self, name: str, circuit: Circuit, why: str) -> None:
        """Emit `noa.circuit.open`, `.half-open` or `.closed`, with `circuit` (its name), `why`."""
        self._emit(f"noa.circuit.{circuit}", circuit=name, why=why[:_LONGEST_TEXT])

    def _emit(self, event: str, **payload: str | int) -> None:
        emit_event(event, resource=self._resource, payload=payload)
