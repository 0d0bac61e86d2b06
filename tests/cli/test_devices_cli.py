"""``edgebench devices`` on real wires: init, trust, check, clean, list --probe."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from lab.cli import Program
from lab.native import bin_folder
from lab.place import Place, free_port

from edgebench.device import archives
from edgebench.errors import EngineMissing

pytestmark = pytest.mark.lab

PLACES = ["linux", "termux", "android", "old_android"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


def profile(edgebench: Program, place: Place, **changes: object) -> str:
    engine = {"path": str(bin_folder() / "llama-server"), "env": {"LD_LIBRARY_PATH": str(bin_folder())}}
    about = {
        "name": place.name,
        "system": place.system,
        "transport": dict(place.transport),
        "workspace": f"{place.folder}/work space",
        "engines": {"llama.cpp": engine},
        **changes,
    }
    edgebench.write(f"devices/{place.name}.yaml", yaml.safe_dump(about, allow_unicode=True))
    return place.name


def checks(edgebench: Program, name: str) -> tuple[int, dict[str, dict[str, object]]]:
    ran = edgebench("devices", "check", name, "--json")
    return ran.status, {check["name"]: check for check in json.loads(ran.stdout)["checks"]}


def test_check_of_a_device_that_works(edgebench: Program, place: Place):
    status, found = checks(edgebench, profile(edgebench, place))
    assert status == 0, found
    assert list(found) == [
        *("connection", "commands", "facts", "workspace", "files", "lock", "engine llama.cpp"),
        "engine mlc-llm",
    ]
    # The profile doesn't ask for it: it is no fault, and what to install is said.
    assert (found["engine mlc-llm"]["ok"], found["engine mlc-llm"]["needed"]) == (False, False)
    assert "mlc.ai" in str(found["engine mlc-llm"]["advice"])
    assert [f for f in (place.here / "work space").rglob("*") if f.is_file()] == []


def test_check_says_what_to_do(edgebench: Program, place: Place):
    name = profile(edgebench, place, workspace="/proc/nowhere", engines={"llama.cpp": {"path": "/no/llama-server"}})
    status, found = checks(edgebench, name)
    assert status == 3
    assert not found["workspace"]["ok"]
    assert "workspace:" in str(found["workspace"]["advice"])
    assert not {"files", "lock"} & found.keys()  # said once
    assert not found["engine llama.cpp"]["ok"]
    assert found["connection"]["ok"]
    assert found["commands"]["ok"]


def test_check_of_a_device_that_is_off(edgebench: Program, linux: Place):
    name = profile(edgebench, linux, transport={**linux.transport, "port": free_port()})
    ran = edgebench("devices", "check", name)
    assert ran.status == 4
    assert "NO  connection: no response from" in ran.stdout
    assert "Is the device on" in ran.stdout


def test_list_says_who_is_there(edgebench: Program, linux: Place, android: Place, termux: Place):
    profile(edgebench, linux)
    profile(edgebench, android)
    profile(edgebench, termux, transport={**termux.transport, "port": free_port()})
    # The examples that ship are asked too: a phone's would have adb start a server that stays.
    edgebench.env["ANDROID_ADB_SERVER_PORT"] = str(android.transport["port"])
    ran = edgebench("devices", "list", "--probe", "--json")
    reached = {device["name"]: device["reached"] for device in json.loads(ran.stdout)["devices"]}
    assert reached["lab-linux"] == reached["lab-android"] == reached["local"] == "yes"
    assert reached["lab-termux"].startswith("no: no response from")


def answered(edgebench: Program, answer: str, *args: str) -> tuple[int, str]:
    """A command with a terminal on its standard input, and what it says on stderr."""
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = subprocess.run(
        edgebench.argv(*args),
        cwd=edgebench.folder,
        env=edgebench.environment(),
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    return done.returncode, done.stderr


def test_trust_shows_the_fingerprint_and_asks(edgebench: Program, linux: Place, tmp_path: Path):
    known = tmp_path / "known_hosts"
    name = profile(edgebench, linux, transport={**linux.transport, "known_hosts": str(known)})
    refused = edgebench("devices", "check", name)
    assert f"edgebench devices trust {name}" in refused.stdout
    status, said = answered(edgebench, "n", "devices", "trust", name)
    assert status == 1
    assert said.endswith("edgebench: the host key was not added\n")
    nobody = edgebench("devices", "trust", name)
    assert nobody.status == 2
    refusal = "stdin is not a terminal, so confirmation is impossible; the host key was not added"
    assert f"\nedgebench: {refusal}\n" in nobody.stderr
    assert f"to {known} yourself" in nobody.stderr
    assert "SHA256:" in said
    assert not known.exists()
    status, said = answered(edgebench, "y", "devices", "trust", name)
    assert status == 0, said
    assert "login succeeded" in said
    assert checks(edgebench, name)[0] == 0


def test_init_asks_about_a_host_key_that_nobody_knows(edgebench: Program, linux: Place, tmp_path: Path):
    """There is no profile yet that `devices trust` could take."""
    wire, known = linux.transport, tmp_path / "known_hosts"
    how = ["devices", "init", "mine", "--host", f"{wire['user']}@{wire['host']}:{wire['port']}"]
    how += ["--key", wire["key"], "--known-hosts", str(known)]
    status, said = answered(edgebench, "n", *how)
    assert status == 1
    assert "SHA256:" in said
    assert not known.exists()
    assert not (edgebench.folder / "devices").exists()
    status, said = answered(edgebench, "y", *how)
    assert status == 0, said
    assert edgebench("devices", "show", "mine").status == 0


def test_clean_removes_models_after_asking(edgebench: Program, place: Place):
    models = place.here / "work space" / "models"
    models.mkdir(parents=True)
    (models / "a b.gguf").write_bytes(b"x" * 1000)
    (models / "c.gguf.part").write_bytes(b"x")
    about = {"file": "a b.gguf", "name": "mine", "size_b": 999, "used": "2026-11-26"}
    (models / "a b.gguf.json").write_text(json.dumps(about))
    (models / "d.gguf").write_bytes(b"x")
    name = profile(edgebench, place)
    status, said = answered(edgebench, "n", "devices", "clean", name)
    assert (status, said.endswith("edgebench: nothing was removed\n")) == (1, True)
    nobody = edgebench("devices", "clean", name)
    assert (nobody.status, "--yes" in nobody.stderr) == (2, True)
    assert len(list(models.iterdir())) == 4
    ran = edgebench("devices", "clean", name, "min", "--yes")
    assert (ran.status, "Deployed models: mine, c.gguf.part, d.gguf" in ran.stderr) == (2, True)
    ran = edgebench("devices", "clean", name, "mine", "d", "--yes")
    assert ran.status == 0, ran.stderr
    (titles, *rows) = (re.split(r"  +", line) for line in ran.stdout.splitlines())
    assert titles == ["MODEL", "SIZE", "LAST USED", "FILE"]
    assert rows == [["mine", "999 B", "2026-11-26", "a b.gguf"], ["unknown", "1.00 B", "unknown", "d.gguf"]]
    assert [file.name for file in models.iterdir()] == ["c.gguf.part"]
    ran = edgebench("devices", "clean", name, "--yes")
    assert ran.status == 0, ran.stderr
    assert "unfinished" in ran.stdout
    assert list(models.iterdir()) == []
    assert "nothing to remove" in edgebench("devices", "clean", name, "--yes").stderr


def test_init_asks_the_device(edgebench: Program, place: Place):
    wire = place.transport
    if wire["kind"] == "ssh":
        how = ["--host", f"{wire['user']}@{wire['host']}:{wire['port']}"]
        how += ["--key", wire["key"], "--known-hosts", wire["known_hosts"]]
    else:
        how = ["--serial", wire["serial"]]
        edgebench.env["ANDROID_ADB_SERVER_PORT"] = str(wire["port"])
    ran = edgebench("devices", "init", "mine", *how)
    assert ran.status == 0, ran.stderr
    written = yaml.safe_load((edgebench.folder / "devices" / "mine.yaml").read_text())
    assert written["system"] == place.system
    assert "yaml-language-server" not in (edgebench.folder / "devices" / "mine.yaml").read_text()
    assert written["transport"]["kind"] == wire["kind"]
    assert edgebench("devices", "show", "mine").status == 0
    again = edgebench("devices", "init", "mine", *how)
    assert again.status == 2
    assert "already exists" in again.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["x"],
        ["x", "--host", "h", "--serial", "s"],
        ["../x", "--serial", "s"],
        ["all", "--serial", "s"],
        ["x", "--host", "a@b@c"],
    ],
)
def test_init_wants_one_device_and_a_name(edgebench: Program, args: list[str]):
    assert edgebench("devices", "init", *args).status == 2
    assert not (edgebench.folder / "devices").exists()


ARCHIVE = "llama-lab.tar.gz"
SYSTEMS = ("linux", "android")


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive as llama.cpp releases them: the lab's own build."""
    folder = tmp_path_factory.mktemp("mirror")
    with tarfile.open(folder / ARCHIVE, "w:gz", compresslevel=1) as tar:
        for file in sorted(bin_folder().iterdir()):
            if file.name.count(".so") == 0 or file.name.endswith((".so.0", ".so", ".so.1")):
                tar.add(file.resolve(), f"llama-lab/{file.name}")
    return folder


WITH_CATALOGUE = """
import sys
from pathlib import Path
from edgebench.device import archives
archives.CATALOGUE = Path(sys.argv.pop(1))
from edgebench.cli import main
main()
"""


@pytest.fixture
def lab_catalogue(edgebench: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue whose only archive is the lab's, its hash unknown; and a cache of its own."""
    edgebench.env["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    systems = [{"system": system, "machine": "x86_64", "backend": "cpu", "file": ARCHIVE} for system in SYSTEMS]
    about = {"build": "lab", "url": "http://127.0.0.1:1/", "program": "llama-server", "archives": systems}
    file = tmp_path / "engines.yaml"
    file.write_text(yaml.safe_dump({"llama.cpp": about}))
    start = [sys.executable, "-c", WITH_CATALOGUE, str(file)]
    monkeypatch.setattr(Program, "argv", lambda _, *args: [*start, *args])
    return file


def test_setup_of_a_bare_machine(edgebench: Program, linux: Place, mirror: Path, lab_catalogue: Path):
    name = profile(edgebench, linux, engines={"llama.cpp": {}})
    bare = edgebench("devices", "check", name)
    assert f"edgebench devices setup {name}" in bare.stdout
    ran = edgebench("devices", "setup", name, "--mirror", str(mirror))
    assert ran.status == 0, ran.stderr
    assert f"{name} runs llama.cpp" in ran.stderr
    assert checks(edgebench, name)[0] == 0


QUICK = ("--rounds", "1", "--prompt-tokens", "16", "--gen-tokens", "8", "--ctx", "256", "--threads", "2")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_bare_device_to_a_result_in_one_command(
    name: str,
    request: pytest.FixtureRequest,
    edgebench: Program,
    mirror: Path,
    lab_catalogue: Path,
    tmp_path: Path,
    real_model: Path,
):
    place: Place = request.getfixturevalue(name)
    bare = profile(edgebench, place, engines={})
    run = ("run", "-d", bare, "-m", str(real_model), *QUICK, "--json", "-")
    ran = edgebench(*run)
    assert ran.status == 3
    assert f"{ARCHIVE}: " in ran.stderr
    assert "--mirror" in ran.stderr
    cache = tmp_path / "cache" / "edgebench" / "engines"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ARCHIVE).symlink_to(mirror / ARCHIVE)
    ran = edgebench(*run)
    assert ran.status == 0, ran.stderr
    assert f"no llama.cpp on {bare}; fetching {ARCHIVE}" in ran.stderr
    engine = ran.record["facts"]["engine"]
    assert engine["path"] == f"{place.folder}/work space/engines/llama.cpp/llama-server"
    assert engine["sha256"] == hashlib.sha256((bin_folder() / "llama-server").read_bytes()).hexdigest()
    ran = edgebench(*run)
    assert ran.status == 0, ran.stderr
    assert "there is no llama.cpp" not in ran.stderr


def test_termux_keeps_its_own_packages(edgebench: Program, termux: Place):
    """Nothing is installed there without being asked for."""
    ran = edgebench("run", "-d", profile(edgebench, termux, engines={}), *QUICK)
    assert ran.status == 3
    assert f"edgebench devices setup {termux.name}" in ran.stderr


def test_an_archive_that_changed_since_its_first_use_is_refused(
    edgebench: Program, linux: Place, mirror: Path, lab_catalogue: Path, tmp_path: Path
):
    name = profile(edgebench, linux, engines={"llama.cpp": {}})
    assert edgebench("devices", "setup", name, "--mirror", str(mirror)).status == 0
    (tmp_path / ARCHIVE).write_bytes((mirror / ARCHIVE).read_bytes() + b"more")
    ran = edgebench("devices", "setup", name, "--mirror", str(tmp_path))
    assert ran.status == 3
    assert f"expected {hashlib.sha256((mirror / ARCHIVE).read_bytes()).hexdigest()}" in ran.stderr


def test_an_archive_that_is_not_the_pinned_one_is_refused(edgebench: Program, linux: Place, mirror: Path, tmp_path):
    name = profile(edgebench, linux, engines={"llama.cpp": {}})
    pinned = archives.choose_archive("llama.cpp", "linux", "x86_64", "cpu")
    (tmp_path / pinned.file).write_bytes((mirror / ARCHIVE).read_bytes())
    ran = edgebench("devices", "setup", name, "--mirror", str(tmp_path))
    assert ran.status == 3
    assert f"expected {pinned.sha256}" in ran.stderr
    assert not (linux.here / "work space" / "engines").exists()


def test_the_catalogue_names_archives_of_one_build():
    """Names as llama.cpp's releases have had them since December 2025; the same file has one hash."""
    found = archives.load_catalogue()
    assert {archive.build for archive in found} == {"b10665"}
    assert all(archive.file.startswith(f"llama-{archive.build}-bin-") for archive in found)
    assert all(archive.sha256 is None or re.fullmatch("[0-9a-f]{64}", archive.sha256) for archive in found)
    assert len({(a.file, a.sha256) for a in found}) == len({a.file for a in found})


def test_setup_without_the_archive(edgebench: Program, linux: Place, tmp_path: Path):
    name = profile(edgebench, linux, engines={"llama.cpp": {}})
    ran = edgebench("devices", "setup", name, "--mirror", str(tmp_path))
    assert ran.status == 3
    assert "no such file" in ran.stderr
    ran = edgebench("devices", "setup", name, "--backend", "cuda")
    assert ran.status == 3
    assert "Choose --backend from: cpu, vulkan" in ran.stderr


@pytest.mark.parametrize("mirror", ["http://[x", "http://127.0.0.1:1"])
def test_a_mirror_that_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pinned = archives.choose_archive("llama.cpp", "linux", "x86_64", "cpu")
    with pytest.raises(EngineMissing, match=re.escape(mirror)) as refused:
        archives.fetch(pinned, mirror)
    assert "--mirror FOLDER" in refused.value.hint
    (tmp_path / "edgebench").rename(tmp_path / "was")
    (tmp_path / "edgebench").write_text("in the way")
    with pytest.raises(EngineMissing, match=r"Not a directory|File exists"):
        archives.fetch(pinned, mirror)


def test_setup_of_a_broken_archive(edgebench: Program, linux: Place, lab_catalogue: Path, tmp_path: Path):
    name = profile(edgebench, linux, engines={"llama.cpp": {}})
    (tmp_path / ARCHIVE).write_bytes(b"\x1f\x8b not an archive")
    ran = edgebench("devices", "setup", name, "--mirror", str(tmp_path))
    assert ran.status == 3
    assert "cannot be unpacked" in ran.stderr
    assert not (linux.here / "work space" / "engines").exists()


def test_setup_of_what_is_there_already(edgebench: Program, place: Place):
    ran = edgebench("devices", "setup", profile(edgebench, place))
    assert ran.status == 0, ran.stderr
    assert "llama-server" in ran.stderr
