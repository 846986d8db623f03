"""The consumer flow for AWS SQS."""

from noa_flows.consumers.consumer_flow import consumer_flow

consume_sqs = consumer_flow("sqs")
