"""`make bench`: print every benchmark's table. Ratios count, since machines are shared."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from tests.benchmarks.hand_over import measure_hand_over
from tests.benchmarks.memory import measure_memory
from tests.benchmarks.million import measure_million
from tests.benchmarks.providers import measure_providers
from tests.benchmarks.soak import measure_soak
from tests.benchmarks.workers import measure_workers

BENCHMARKS: Mapping[str, Callable[[], Coroutine[Any, Any, object]]] = {
    "hand-over": measure_hand_over,
    "providers": measure_providers,
    "memory": measure_memory,
    "workers": measure_workers,
}
#: Those that take too long to be run unasked.
ON_REQUEST: Mapping[str, Callable[[], Coroutine[Any, Any, object]]] = {
    "soak": measure_soak,
    "million": measure_million,
}


def main() -> None:
    """Run the benchmarks that were named, or all that don't take long."""
    for name in sys.argv[1:] or BENCHMARKS:
        print(asyncio.run({**BENCHMARKS, **ON_REQUEST}[name]()), flush=True)


if __name__ == "__main__":
    main()
