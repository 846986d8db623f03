"""The private names of Prefect's that noa-flows rests on are where they were."""

import ast
import inspect
import re
from importlib import import_module
from operator import attrgetter
from typing import Any

import prefect
import pytest
from prefect.workers.process import ProcessWorker

from tests.project import PROJECT

#: Class of Prefect's → the files that extend it.
_EXTENDED = {
    "prefect.workers.process:ProcessWorker": ("prompt_worker", "warm_worker"),
    "prefect._internal.observers:FlowRunCancellingObserver": ("observers",),
    "prefect._internal.observers:FlowRunSuspendingObserver": ("observers",),
}
_CALLED = {
    "prefect._internal.observers:FlowRunCancellingObserver": "on_cancelling",
    "prefect._internal.observers:FlowRunSuspendingObserver": "on_suspended",
}
_OURS = PROJECT / "noa_flows" / "prefect_internals.py"
_PRIVATE_IMPORT = re.compile(r"^\s*(?:from|import)\s+prefect(?:\.\w+)*\._", re.MULTILINE)


def imported() -> list[str]:
    """Read what the file imports of Prefect's, without importing it."""
    imports = [
        node for node in ast.parse(_OURS.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    return [f"{one.module}:{alias.name}" for one in imports for alias in one.names]


def constant(name: str) -> Any:
    """Read a constant of the file, likewise."""
    for node in ast.parse(_OURS.read_text()).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == name:
            return ast.literal_eval(node.value or ast.Constant(""))
    raise AssertionError(f"there is no {name}")


OVERRIDDEN: dict[str, tuple[str, ...]] = constant("OVERRIDDEN")
INHERITED: dict[str, tuple[str, ...]] = constant("INHERITED")


def find(place: str) -> Any:
    """Look a name up by `module:path`, and say clearly where it has gone."""
    module, _, path = place.partition(":")
    try:
        return attrgetter(path)(import_module(module))
    except (ImportError, AttributeError) as error:
        pytest.fail(
            f"Prefect {prefect.__version__} has no {place} any more ({error}); see to "
            "noa_flows/prefect_internals.py, and to whoever uses it"
        )


@pytest.mark.parametrize("place", [one for one in imported() if one.startswith("prefect")])
def test_what_is_imported_is_there(place: str) -> None:
    find(place)


@pytest.mark.parametrize("place", OVERRIDDEN)
def test_what_is_replaced_or_overridden_takes_what_it_took(place: str) -> None:
    found = tuple(inspect.signature(find(place)).parameters)

    assert found == OVERRIDDEN[place], f"Prefect {prefect.__version__} has changed {place}"


@pytest.mark.parametrize(
    "place",
    [
        "prefect.client.orchestration:ssl.create_default_context",
        "prefect.client.orchestration:PrefectClient.raise_for_api_version_mismatch",
        "prefect.client.orchestration:SyncPrefectClient.raise_for_api_version_mismatch",
        "prefect._internal.observers:_SuspensionWatch.initialize",
        "prefect.runner._flow_run_executor:FlowRunCancellingObserver",
        "prefect.runner._flow_run_executor:FlowRunExecutorContext.create_executor",
        "prefect.workers.base:FlowRunCancellingObserver",
    ],
)
def test_what_is_used_of_an_object_is_there(place: str) -> None:
    assert callable(find(place))


def names_of(place: str) -> set[str]:
    """List all that an instance of a class of Prefect's has, or is given in its methods."""
    kind = find(place)
    options: dict[str, Any] = (
        {"work_pool_name": "nowhere"} if kind is ProcessWorker else {_CALLED[place]: print}
    )
    methods = [one for one in vars(kind).values() if inspect.isfunction(one)]
    return {*dir(kind(**options)), *(name for one in methods for name in one.__code__.co_names)}


@pytest.mark.parametrize("place", INHERITED)
def test_what_is_inherited_is_there(place: str) -> None:
    gone = set(INHERITED[place]) - names_of(place)
    assert gone == set(), f"{place} of Prefect {prefect.__version__} has no such attributes"


def test_nothing_else_is_used_of_what_is_extended() -> None:
    """The names of the extension's own are those that Prefect's class hasn't."""
    listed = {place.rpartition(".")[2] for place in OVERRIDDEN} | {
        name for names in INHERITED.values() for name in names
    }
    for place, files in _EXTENDED.items():
        folder = PROJECT / "noa_flows" / "worker"
        code = "".join((folder / f"{name}.py").read_text() for name in files)
        used = set(re.findall(r"self\.(_[a-z]\w*)", code))
        assert used & names_of(place) - listed == set()


def test_a_name_that_has_gone_is_named() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"has no prefect\.engine:gone any more"):
        find("prefect.engine:gone")


def test_no_other_file_imports_what_is_private() -> None:
    offenders = [
        str(path.relative_to(PROJECT))
        for layer in ("blocks", "noa_flows", "deployments")
        for path in (PROJECT / layer).rglob("*.py")
        if path != _OURS and _PRIVATE_IMPORT.search(path.read_text())
    ]
    assert offenders == []
