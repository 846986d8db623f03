"""Reading the operator's named secrets."""

from collections.abc import Awaitable, Callable
from typing import cast

from noa_flows.errors import PermanentJobError, TemporaryJobError

#: Block name to secret.
SecretReader = Callable[[str], Awaitable[str]]


async def read_prefect_secret(name: str) -> str:
    """Read a secret from the Prefect Secret block of this name.

    Raises:
        PermanentJobError: There is no such block, or what it holds isn't text.
        TemporaryJobError: Prefect's API can't be reached.
    """
    from httpx import HTTPError
    from prefect.blocks.system import Secret

    try:
        block = await Secret.aload(name)  # pyright: ignore[reportUnknownVariableType]
    except HTTPError as error:
        raise TemporaryJobError(
            f"the Secret block {name!r} could not be read from Prefect's API: "
            f"{type(error).__name__}"
        ) from error
    except ValueError as error:
        raise PermanentJobError(
            f"there is no Secret block {name!r}; create it in Prefect, or take its name out of "
            "the webhook settings"
        ) from error
    value = cast("object", block.get())
    if not isinstance(value, str):
        raise PermanentJobError(f"the Secret block {name!r} must hold text to be a signing key")
    return value
