"""Ways to an SQS: keys, policies, roles, settings of queues. On moto: Amazon was never asked.

moto speaks plain HTTP, so TLS is not shown here. It checks keys, signatures and policies where it
is told to; it neither encrypts nor lets credentials end.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from prefect_aws.assume_role_parameters import AssumeRoleParameters
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.credentials import AwsCredentials
from pydantic import SecretStr

from blocks.errors import (
    BrokerConfigurationError,
    BrokerRefusedError,
    BrokerUnavailableError,
)
from blocks.message import Done, Message
from blocks.sqs_broker import SqsBroker
from tests.conformance.moves import settle, take
from tests.servers.moto_server import REGION, MotoServer
from tests.servers.ports import free_port

#: The least that a user needs; docs/providers/sqs.md documents it.
RIGHTS = (
    *("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SendMessage", "sqs:ReceiveMessage"),
    *("sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
)
TO_DECLARE = ("sqs:CreateQueue", "sqs:SetQueueAttributes")


@pytest.fixture(scope="module")
def strict() -> Iterator[MotoServer]:
    """A moto that checks credentials; the module's own, since it is told when to."""
    with MotoServer() as server:
        yield server


def client(server: MotoServer, service: str) -> Any:
    """A plain client, for what an administrator would do."""
    make: Any = boto3
    return make.client(
        service,
        region_name=REGION,
        endpoint_url=server.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def policy(actions: tuple[str, ...]) -> str:
    """A policy that allows this and no more; of a queue that isn't there moto knows no resource."""
    # To moto a batch is a right of its own; at AWS that of the single call covers it.
    both = [*actions, *(f"{action}Batch" for action in actions)]
    statement = {"Effect": "Allow", "Action": both, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def new_user(server: MotoServer, actions: tuple[str, ...]) -> tuple[str, str]:
    """Make a user and return its key."""
    server.take_any_credentials()
    iam, name = client(server, "iam"), f"user-{uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy(actions))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    server.demand_credentials()
    return key["AccessKeyId"], key["SecretAccessKey"]


def with_key(server: MotoServer, key: tuple[str, str], **options: Any) -> SqsBroker:
    return SqsBroker(
        region=REGION,
        endpoint=server.endpoint,
        access_key_id=key[0],
        secret_access_key=SecretStr(key[1]),
        **options,
    )


async def round_trip(broker: SqsBroker, queue: str) -> None:
    """Declare, publish, take, settle, count."""
    async with broker.connect() as session:
        await session.declare(queue)
        await session.publish(queue, [Message(body=b"x")])
        await settle(session, Done(), *await take(session, queue, 1))
        assert (await session.depth(queue)).ready == 0


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


async def test_the_documented_rights_are_enough_and_each_is_needed(strict: MotoServer, queue: str):
    key = await asyncio.to_thread(new_user, strict, RIGHTS + TO_DECLARE)
    await round_trip(with_key(strict, key), queue)
    for missing in ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:GetQueueAttributes"):
        fewer = tuple(one for one in RIGHTS + TO_DECLARE if one != missing)
        key = await asyncio.to_thread(new_user, strict, fewer)
        with pytest.raises(BrokerRefusedError, match="credentials don't allow it"):
            await round_trip(with_key(strict, key), queue)


async def test_a_user_that_may_declare_nothing_uses_what_is_there(strict: MotoServer, queue: str):
    maker = await asyncio.to_thread(new_user, strict, ("sqs:*",))
    user = await asyncio.to_thread(new_user, strict, RIGHTS)
    broker = with_key(strict, user, declare=False)
    with pytest.raises(BrokerRefusedError, match="has no such queue"):
        await round_trip(broker, queue)
    async with with_key(strict, maker).connect() as session:
        await session.declare(queue)
    await round_trip(broker, queue)


async def test_a_wrong_secret_is_refused_at_once_and_asked_once(strict: MotoServer, queue: str):
    key_id, secret = await asyncio.to_thread(new_user, strict, ("sqs:*",))
    before = strict.log(10_000).count("POST /")
    with pytest.raises(BrokerRefusedError, match="secret_access_key") as told:
        await round_trip(with_key(strict, (key_id, f"{secret}x")), queue)
    assert secret not in str(told.value)
    assert strict.log(10_000).count("POST /") - before == 1


async def test_a_role_is_assumed_by_the_block_of_prefect_aws(strict: MotoServer, queue: str):
    await asyncio.to_thread(strict.take_any_credentials)
    iam = client(strict, "iam")
    name = f"role-{uuid4().hex[:8]}"
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    rights = policy(("sqs:*",))
    iam.put_role_policy(RoleName=name, PolicyName="rights", PolicyDocument=rights)
    key_id, secret = await asyncio.to_thread(new_user, strict, ("sts:AssumeRole",))
    credentials = AwsCredentials(
        aws_access_key_id=key_id,
        aws_secret_access_key=SecretStr(secret),
        region_name=REGION,
        aws_client_parameters=AwsClientParameters(endpoint_url=strict.endpoint),
    )
    with pytest.raises(BrokerRefusedError, match="credentials don't allow it"):
        await round_trip(SqsBroker(region=REGION, credentials=credentials), queue)
    as_role = credentials.model_copy(
        update={
            "assume_role_arn": role,
            "assume_role_kwargs": AssumeRoleParameters(RoleSessionName="noa"),
        }
    )
    broker = SqsBroker(region=REGION, credentials=as_role)
    assert strict.endpoint in broker.address
    await round_trip(broker, queue)


async def test_without_a_key_the_chain_of_aws_is_asked(
    moto_server: MotoServer, queue: str, monkeypatch: pytest.MonkeyPatch
):
    broker = SqsBroker(region=REGION, endpoint=moto_server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BrokerConfigurationError, match="no AWS credentials were found"):
        await round_trip(broker, queue)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    await round_trip(broker, queue)


async def test_https_to_what_speaks_http_is_told_at_once(moto_server: MotoServer, queue: str):
    broker = SqsBroker.from_url(moto_server.url.replace("http:", "https:"))
    with pytest.raises((BrokerRefusedError, BrokerUnavailableError), match="check"):
        await round_trip(broker, queue)


@pytest.mark.parametrize("fifo", [False, True])
async def test_declaring_makes_the_dead_letters_redrive_and_encryption_and_is_repeatable(
    moto_server: MotoServer, queue: str, fifo: bool
):
    fields: dict[str, Any] = {"kms_key_id": "alias/noa", "kms_reuse_seconds": 600}
    broker = with_key(moto_server, ("test", "test"), fifo=fifo, **fields)
    for _ in range(2):
        await round_trip(broker, queue)
    suffix = ".fifo" if fifo else ""
    sqs = client(moto_server, "sqs")
    main, dead = (
        sqs.get_queue_attributes(
            QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], AttributeNames=["All"]
        )["Attributes"]
        for name in (f"{queue}{suffix}", f"{queue}-dead{suffix}")
    )
    assert json.loads(main["RedrivePolicy"]) == {
        "deadLetterTargetArn": dead["QueueArn"],
        "maxReceiveCount": 1_000,
    }
    for one in (main, dead):
        assert (one["KmsMasterKeyId"], one["KmsDataKeyReusePeriodSeconds"]) == ("alias/noa", "600")
        assert one.get("FifoQueue") == ("true" if fifo else None)
    assert dead["MessageRetentionPeriod"] == str(14 * 24 * 3600)


async def test_sqs_own_encryption_can_be_switched_on_and_off(moto_server: MotoServer, queue: str):
    sqs = client(moto_server, "sqs")
    for wanted in (True, False):
        await round_trip(with_key(moto_server, ("test", "test"), sse_sqs=wanted), queue)
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["SqsManagedSseEnabled"])
        assert found["Attributes"]["SqsManagedSseEnabled"] == str(wanted).lower()


async def test_where_nothing_may_be_declared_other_settings_are_refused(
    moto_server: MotoServer, queue: str
):
    key = ("test", "test")
    await round_trip(with_key(moto_server, key, kms_key_id="alias/theirs"), queue)
    ours = with_key(moto_server, key, kms_key_id="alias/ours", declare=False)
    with pytest.raises(BrokerRefusedError, match="alias/theirs"):
        await round_trip(ours, queue)


async def test_a_redrive_policy_of_the_operator_stays(
    moto_server: MotoServer, queue: str, caplog: pytest.LogCaptureFixture
):
    sqs = client(moto_server, "sqs")
    graveyard = sqs.create_queue(QueueName=f"{queue}-graveyard")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=graveyard, AttributeNames=["QueueArn"])
    written = json.dumps(
        {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": 7}
    )
    url = sqs.create_queue(QueueName=queue, Attributes={"RedrivePolicy": written})["QueueUrl"]
    await round_trip(with_key(moto_server, ("test", "test")), queue)
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
    assert json.loads(found["Attributes"]["RedrivePolicy"]) == json.loads(written)
    assert "redrive policy of its own" in caplog.text


async def test_a_bucket_or_an_endpoint_that_is_not_there_is_told(
    moto_server: MotoServer, queue: str
):
    broker = with_key(moto_server, ("test", "test"), large_payload_bucket="nobody-has-this")
    async with broker.connect() as session:
        await session.declare(queue)
        [outcome] = await session.publish(queue, [Message(body=b"x" * 2_000_000)])
        assert isinstance(outcome.error, BrokerRefusedError)
        assert "large_payload_bucket" in str(outcome.error)
    nobody = SqsBroker.from_url(f"sqs://a:b@{REGION}?endpoint=http://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailableError, match="check that it runs"):
        await round_trip(nobody, queue)
