"""AWS SQS as a broker, with SNS for topics and S3 for large payloads."""

from blocks.sqs_broker.broker import SqsBroker

__all__ = ["SqsBroker"]
