"""Bundles: what goes out comes in elsewhere, and what was tampered with does not."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab.records import conversation, record, samples
from lab.stores import DEFAULT, Call, fill

from edgebench.core import Failure
from edgebench.errors import StoreError, UsageError
from edgebench.store.bundle import Bundle
from edgebench.store.results import Store

STARTS = ("first start\n", b"second \xff start".decode("utf-8", "surrogateescape"))


@pytest.fixture
def bundle(call: Call, tmp_path: Path) -> Path:
    """A good bundle of two records."""
    fill(
        DEFAULT,
        record(turns=conversation(2), samples=samples(5)),
        record(status="failed", failure=Failure("died")),
        logs=STARTS,
    )
    assert call("results", "export", "--bundle", "run.zip").exit_code == 0
    return tmp_path / "run.zip"


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(path: Path, changed: dict[str, bytes | None], *, resum: bool = False) -> Path:
    """The bundle with members replaced, added or (None) left out; with hashes made to fit, or not."""
    parts = {**members(path), **changed}
    kept = {name: data for name, data in parts.items() if data is not None}
    if resum:
        listed = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(kept.items())]
        kept["SHA256SUMS"] = "".join(line for line in listed if not line.endswith("  SHA256SUMS\n")).encode()
    target = path.with_name("forged.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
    return target


def record_name(path: Path) -> str:
    return next(name for name in members(path) if name.startswith("records/"))


def refusal(call: Call, path: Path) -> str:
    """How a bundle is refused, with the exit code of bad input, and no store made for it."""
    with pytest.raises(StoreError) as caught:
        call("results", "import", path, "--store", "fresh.sqlite")
    assert caught.value.exit_code == 2
    assert not Path("fresh.sqlite").exists()
    before, _, why = str(caught.value).partition(" rejected: ")
    assert before == str(path)
    return why


# --- out and in --------------------------------------------------------------------------------


def test_everything_comes_out_and_in_again(call: Call, bundle: Path) -> None:
    result = call("results", "import", bundle, "--store", "elsewhere.sqlite")
    assert "2 imported, 0 already present" in result.stderr
    with Store(DEFAULT) as here, Store(Path("elsewhere.sqlite")) as there:
        assert list(there.records(samples=True)) == list(here.records(samples=True))
        for row in here.rows():
            assert there.logs(row.id) == here.logs(row.id)
            assert len(there.logs(row.id)) == 2


def test_taking_it_in_again_changes_nothing(call: Call, bundle: Path) -> None:
    assert "0 imported, 2 already present" in call("results", "import", bundle).stderr
    call("results", "import", bundle, bundle, "--store", "other.sqlite")
    assert "0 imported, 2 already present" in call("results", "import", bundle, "--store", "other.sqlite").stderr
    with Store(Path("other.sqlite")) as store:
        assert len(store.rows()) == 2


def test_the_same_results_make_the_same_bundle(call: Call, bundle: Path) -> None:
    call("results", "import", bundle, "--store", "other.sqlite")
    call("results", "export", "--bundle", "again.zip", "--store", "other.sqlite")
    assert Path("again.zip").read_bytes() == bundle.read_bytes()


def test_stores_of_several_machines_merge(call: Call, tmp_path: Path) -> None:
    for machine in ("a", "b"):
        fill(tmp_path / f"{machine}.sqlite", record(device=machine), logs=STARTS)
        call("results", "export", "--bundle", f"{machine}.zip", "--store", f"{machine}.sqlite")
    call("results", "import", "a.zip", "b.zip")
    with Store(DEFAULT) as store:
        assert sorted(row.device for row in store.rows()) == ["a", "b"]
        assert len({row.run for row in store.rows()}) == 2


def test_a_bundle_of_some(call: Call, tmp_path: Path) -> None:
    fill(DEFAULT, record(device="a"), record(device="b"), logs=STARTS)
    call("results", "export", "--bundle", "b.zip", "--device", "b")
    with Bundle(tmp_path / "b.zip") as one:
        assert [one.entry(id).record.trial.device for id in one.ids] == ["b"]


def test_ordinary_tools_check_it(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "out")
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "out", check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.count(": OK") == len(members(bundle)) - 1


def test_nothing_to_bundle_and_words_that_do_not_fit(call: Call) -> None:
    with pytest.raises(UsageError, match="no results"):
        call("results", "export", "--bundle", "x.zip")
    fill(DEFAULT, record(), logs=STARTS)
    assert call("results", "export", "--bundle", "x.zip", "--format", "csv").exit_code == 2
    with pytest.raises(UsageError, match="no results"):
        call("results", "export", "--bundle", "x.zip", "--device", "nobody")
    assert not Path("x.zip").exists()


# --- what was tampered with --------------------------------------------------------------------


def test_a_changed_member_is_refused(call: Call, bundle: Path) -> None:
    name = record_name(bundle)
    data = members(bundle)[name].replace(b'"value": 40.0', b'"value": 90.0')
    assert f"{name} was changed" in refusal(call, forged(bundle, {name: data}))


def test_a_member_left_out_or_added_is_refused(call: Call, bundle: Path) -> None:
    name = next(name for name in members(bundle) if name.startswith("logs/"))
    assert "not those that SHA256SUMS lists" in refusal(call, forged(bundle, {name: None}))
    assert "not those that SHA256SUMS lists" in refusal(call, forged(bundle, {"records/zzzzzzzzzzzz.json": b"{}"}))
    assert "it has no SHA256SUMS" in refusal(call, forged(bundle, {"SHA256SUMS": None}))
    assert "SHA256SUMS cannot be read" in refusal(call, forged(bundle, {"SHA256SUMS": b"nonsense\n"}))


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/passwd", "records/../../x.json", "records/a\\..\\b.json", "C:/x", "readme.txt"]
)
def test_a_name_that_would_leave_its_folder_is_refused(call: Call, bundle: Path, name: str) -> None:
    assert "unexpected member" in refusal(call, forged(bundle, {name: b"x"}, resum=True))


def test_a_name_twice_is_refused(call: Call, bundle: Path) -> None:
    name = record_name(bundle)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(name, b"{}")
    assert "unexpected member" in refusal(call, bundle)


def test_a_bomb_is_refused_unopened(call: Call, bundle: Path) -> None:
    assert "compressed too much" in refusal(
        call, forged(bundle, {"logs/zzzzzzzzzzzz.0.txt": bytes(50 << 20)}, resum=True)
    )


def test_a_bomb_that_lies_about_its_size_is_refused(call: Call, bundle: Path) -> None:
    made = forged(bundle, {"logs/zzzzzzzzzzzz.0.txt": bytes(50 << 20)}, resum=True)
    data = bytearray(made.read_bytes())
    entry = data.rindex(b"logs/zzzzzzzzzzzz.0.txt") - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    made.write_bytes(data)
    why = refusal(call, made)
    assert "damaged" in why or "was changed" in why


def test_files_that_are_no_bundle(call: Call, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        call("results", "import", "missing.zip")
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        call("results", "import", tmp_path)
    (tmp_path / "text.zip").write_text("hello")
    assert "not a zip file" in refusal(call, tmp_path / "text.zip")
    (tmp_path / "empty.zip").write_bytes(b"")
    assert "not a zip file" in refusal(call, tmp_path / "empty.zip")
    (tmp_path / "cut.zip").write_bytes(bundle.read_bytes()[: bundle.stat().st_size // 2])
    assert "not a zip file, or truncated" in refusal(call, tmp_path / "cut.zip")


def test_records_that_are_none_are_refused_even_with_fitting_hashes(call: Call, bundle: Path) -> None:
    name = record_name(bundle)
    good = json.loads(members(bundle)[name])
    for bad, why in (
        (b"[1, 2", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (json.dumps({**good, "id": "somethingels"}).encode(), "has another ID"),
        (json.dumps({**good, "run": {}}).encode(), "has another ID"),
    ):
        assert why in refusal(call, forged(bundle, {name: bad}, resum=True))
    for changed, why in (({"schema": 99}, "schema 99"), ({"trial": {}}, r"trial\.device"), ({"status": "?"}, "status")):
        with pytest.raises(StoreError, match=f"forged.zip: {name}: .*{why}"):
            call("results", "import", forged(bundle, {name: json.dumps({**good, **changed}).encode()}, resum=True))


def test_a_bundle_of_another_form_is_refused(call: Call, bundle: Path) -> None:
    assert "its format is 2" in refusal(call, forged(bundle, {"bundle.json": b'{"form": 2}'}, resum=True))


def test_another_result_under_a_known_id_is_refused_and_nothing_is_taken_in(call: Call, bundle: Path) -> None:
    name = record_name(bundle)
    data = members(bundle)[name].replace(b'"value": 40.0', b'"value": 90.0')
    with Store(DEFAULT) as store:
        before = list(store.records(samples=True))
    with pytest.raises(StoreError, match="differs from the record with the same ID"):
        call("results", "import", forged(bundle, {name: data}, resum=True))
    with Store(DEFAULT) as store:
        assert list(store.records(samples=True)) == before


def test_two_bundles_that_disagree_are_refused_and_nothing_is_taken_in(call: Call, bundle: Path) -> None:
    name = record_name(bundle)
    data = members(bundle)[name].replace(b'"value": 40.0', b'"value": 90.0')
    made = forged(bundle, {name: data}, resum=True)
    with pytest.raises(StoreError, match=r"differs between .*run\.zip and .*forged\.zip"):
        call("results", "import", bundle, made, "--store", "fresh.sqlite")
    assert not Path("fresh.sqlite").exists()


@given(st.integers(0, 10**9), st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_changed_byte_goes_unnoticed_or_ends_in_a_traceback(bundle: Path, place: int, change: int) -> None:
    data = bytearray(bundle.read_bytes())
    data[place % len(data)] ^= change
    made = bundle.with_name("flipped.zip")
    made.write_bytes(data)
    with Bundle(bundle) as one:
        good = list(map(one.entry, one.ids))
    try:
        with Bundle(made) as one:
            assert list(map(one.entry, one.ids)) == good
    except StoreError as error:
        assert "flipped.zip" in str(error)
