"""What of the suite isn't run yet."""

# Kafka isn't offered as a provider yet, and stands in no list: under load its leases are lost now
# and then (`test_what_is_renewed_is_held_for_many_leases`). With this line taken away, `pytest
# tests/conformance/test_kafka.py` runs the suite on Apache Kafka.
collect_ignore = ["test_kafka.py"]
