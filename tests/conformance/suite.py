"""The behaviour of a provider, said once.

A provider's test module holds configuration only:

    class TestRedisBroker(BrokerConformance):
        @pytest.fixture
        def broker(self, redis_server: RedisServer) -> Broker:
            return RedisBroker(...)

        # and `server`, `wrong_credentials`, `unreachable`: see `BrokerFixtures`

Every test passes, or asserts the documented refusal where `Broker.capabilities` rules something
out; none is skipped. A test that stands behind a line of the capability table says so:
`@pytest.mark.capability("delay")`.
"""

from tests.conformance.dead_letters import DeadLetterConformance
from tests.conformance.faults import FaultConformance
from tests.conformance.leases import LeaseConformance
from tests.conformance.publishing import PublishingConformance
from tests.conformance.receiving import ReceivingConformance
from tests.conformance.topics import TopicConformance


class BrokerConformance(
    PublishingConformance,
    ReceivingConformance,
    LeaseConformance,
    DeadLetterConformance,
    TopicConformance,
    FaultConformance,
):
    """Everything that is asked of a provider."""
