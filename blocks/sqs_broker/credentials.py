"""Who asks AWS: a key, a block of prefect-aws with its role, or whatever AWS's own chain finds."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from boto3 import Session
    from prefect_aws.credentials import AwsCredentials


def session_of_block(block: "AwsCredentials", *, region: str, endpoint: str | None) -> "Session":
    """Open the session that the block describes; a role's credentials renew themselves.

    The block's own `get_boto3_session` takes a role's credentials once, and they end after an hour.
    """
    role = block.assume_role_arn
    base = block.model_copy(update={"assume_role_arn": None, "region_name": region})
    session = base.get_boto3_session()
    return session if role is None else _assume(session, block, role, endpoint)


def session_of_key(
    key_id: str | None, secret: str | None, token: str | None, *, region: str
) -> "Session":
    """Open a session with a key; without one, AWS's own chain of credentials is asked."""
    from boto3 import Session

    return Session(
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        region_name=region,
    )


def _assume(base: Any, block: "AwsCredentials", role: str, endpoint: str | None) -> "Session":
    from boto3 import Session
    from botocore import session as core_session
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    def create_client(service: str, **options: Any) -> Any:
        return base.client(service, endpoint_url=endpoint, **options)

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=create_client,
        source_credentials=base.get_credentials(),
        role_arn=role,
        extra_args={
            "RoleSessionName": f"noa-{uuid4().hex[:12]}",
            **block.assume_role_kwargs.get_params_override(),
        },
    )
    core: Any = core_session.Session()
    core._credentials = DeferredRefreshableCredentials(  # noqa: SLF001 - botocore has no setter
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    return Session(botocore_session=core, region_name=base.region_name)
