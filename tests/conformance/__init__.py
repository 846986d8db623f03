"""What every provider does alike: said once in `suite`, configured in a `test_*.py` each."""

import pytest

_MODULES = (
    *("fixtures", "moves", "publishing", "receiving"),
    *("leases", "dead_letters", "topics", "faults"),
)

for _module in _MODULES:
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
