"""Payloads by reference: what was stored comes back, and nothing else ever does."""

import asyncio
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noa_flows.claim_check import fetch_parameters, store_parameters
from noa_flows.errors import PermanentJobError, StorageError

PARAMETERS = {"echo": "ä" * 1000}


@pytest.fixture
async def reference(tmp_path: Path) -> str:
    return await store_parameters(PARAMETERS, tmp_path)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_payload_comes_back_as_it_was_stored(tmp_path: Path, reference: str) -> None:
    assert await fetch_parameters(reference, tmp_path) == PARAMETERS


async def test_a_reference_names_digest_and_size(tmp_path: Path, reference: str) -> None:
    (file,) = files(tmp_path)
    body = file.read_bytes()
    assert reference == f"noa:{hashlib.sha256(body).hexdigest()}:{len(body)}"
    assert json.loads(body) == PARAMETERS


async def test_the_same_payload_is_stored_once_and_another_beside_it(
    tmp_path: Path, reference: str
) -> None:
    assert await store_parameters(PARAMETERS, tmp_path) == reference
    assert len(files(tmp_path)) == 1
    assert await store_parameters({"echo": 1}, tmp_path) != reference
    assert len(files(tmp_path)) == 2


async def test_payloads_stored_at_the_same_time_are_all_whole(tmp_path: Path) -> None:
    stored = [{"echo": "x" * 100_000, "copy": number % 3} for number in range(12)]
    references = await asyncio.gather(*(store_parameters(one, tmp_path) for one in stored))
    assert [await fetch_parameters(one, tmp_path) for one in references] == stored
    assert len(files(tmp_path)) == 3


@pytest.mark.usefixtures("reference")
async def test_a_payload_that_cannot_be_put_in_its_place_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    (file,) = files(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageError):
        await store_parameters(PARAMETERS, tmp_path)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("change", ["same size", "longer", "cut off", "emptied"])
async def test_a_file_that_has_changed_is_refused(
    tmp_path: Path, reference: str, change: str
) -> None:
    (file,) = files(tmp_path)
    body = file.read_bytes()
    changed = {
        "same size": body.replace("ä".encode(), b"oe", 1),
        "longer": body + b" ",
        "cut off": body[:-1],
        "emptied": b"",
    }
    file.write_bytes(changed[change])
    with pytest.raises(PermanentJobError, match="isn't the one that the bridge stored"):
        await fetch_parameters(reference, tmp_path)


async def test_a_wrong_size_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(PermanentJobError, match="isn't the one"):
        await fetch_parameters(f"{reference}0", tmp_path)


async def test_a_file_that_is_gone_is_refused_with_the_remedy(
    tmp_path: Path, reference: str
) -> None:
    with pytest.raises(PermanentJobError, match="must share the folder of the setting `storage`"):
        await fetch_parameters(reference, tmp_path / "elsewhere")


_DIGEST = "0" * 64


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "https://example.com/payload.json",
        "file:///etc/passwd",
        "s3://bucket/key",
        "/etc/passwd",
        f"noa:{'../' * 8}etc/passwd:5",
        f"noa:{'../' * 21}x:5",
        f"noa:{'A' * 64}:5",
        f"noa:{_DIGEST}",
        f"noa:{_DIGEST}:",
        f"noa:{_DIGEST}:-1",
        f"noa:{_DIGEST}:5\n",
        f"noa:{_DIGEST}:\N{ARABIC-INDIC DIGIT FIVE}",
        f" noa:{_DIGEST}:5",
        f"NOA:{_DIGEST}:5",
        f"noa:{_DIGEST}:5:x",
        f"noa:{_DIGEST}:{'9' * 13}",
        f"noa:{_DIGEST}\0:5",
        "x" * 100_000,
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_the_bridge_did_not_write_is_no_reference(tmp_path: Path, foreign: str) -> None:
    with pytest.raises(PermanentJobError, match="no reference that the bridge has made") as caught:
        await fetch_parameters(foreign, tmp_path)
    assert len(str(caught.value)) < 200


_texts = st.text(st.characters(codec="utf-8"))
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(parameters=st.dictionaries(_texts, _values))
def test_any_payload_comes_back(parameters: dict[str, Any]) -> None:
    async def there_and_back(folder: Path) -> Any:
        return await fetch_parameters(await store_parameters(parameters, folder), folder)

    with tempfile.TemporaryDirectory() as folder:
        assert asyncio.run(there_and_back(Path(folder))) == parameters


@given(reference=st.text())
def test_any_other_text_is_refused(reference: str) -> None:
    with pytest.raises(PermanentJobError):
        asyncio.run(fetch_parameters(reference, Path("/nonexistent")))


async def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no folder")
    with pytest.raises(StorageError, match="setting `storage`"):
        await store_parameters({"echo": 1}, occupied)
