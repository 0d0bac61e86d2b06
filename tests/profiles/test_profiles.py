"""Device profiles: found in order, understood, and every mistake named with its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import click.testing
import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lab.paths import ROOT

from edgebench import plugins, profiles, schemas
from edgebench.cli import cli
from edgebench.errors import ProfileError
from edgebench.profiles.documents import Document

SSH = "{kind: ssh, host: box}"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and an empty home."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write(text: str | bytes, name: str = "box.yaml") -> Path:
    path = Path("devices", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mistakes(text: str | bytes) -> list[str]:
    """What is said of a profile, line by line, without the file's name."""
    path = write(text)
    with pytest.raises(ProfileError) as caught:
        profiles.load_device("box")
    said = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}:") for line in said)
    return [line.removeprefix(f"{path}:") for line in said]


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, arguments)


def test_a_profile_is_read() -> None:
    write(
        "name: box\n"
        "description: 'A box, «mine»'\n"
        "system: linux\n"
        "transport: {kind: ssh, host: box.example, port: 2222, user: '0123'}\n"
        "workspace: /data/with space\n"
        "engines:\n"
        "  llama.cpp: {path: /opt/llama-server, env: {LD_LIBRARY_PATH: $HOME}}\n"
        "defaults: {backend: cuda, threads: 14, ctx: 4096, batch: 16, gpu_layers: all}\n"
    )
    device = profiles.load_device("box")
    assert (device.name, device.system, device.description) == ("box", "linux", "A box, «mine»")
    assert device.transport == {"kind": "ssh", "host": "box.example", "port": 2222, "user": "0123"}
    assert device.workspace == "/data/with space"
    assert device.engines == {"llama.cpp": {"path": "/opt/llama-server", "env": {"LD_LIBRARY_PATH": "$HOME"}}}
    assert device.defaults == {"backend": "cuda", "threads": 14, "ctx": 4096, "batch": 16, "gpu_layers": "all"}
    assert device.source == Path("devices/box.yaml")
    assert replace(device, source=None) == replace(profiles.load_device("devices/box.yaml"), source=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["1: is empty"]),
        ("- a\n", ["1: is not YAML: must be a mapping (name: value)"]),
        (b"name: \xff\n", ["1: is not UTF-8 text (byte 6)"]),
        ("name: box\n\tsystem: linux\n", ["2: begins with a tab; YAML is indented by spaces"]),
        ("name: [\n", ["2: is not YAML: expected the node content, but found '<stream end>'"]),
        ("name: box\n---\nname: two\n", ["2: is not YAML: but found another document"]),
        ("a: &x [1]\nb: *x\n", ["2: is not YAML: aliases (*name) are not allowed here"]),
        (
            "name: !!python/name:os.system\n",
            ["1: is not YAML: the tag tag:yaml.org,2002:python/name:os.system is not allowed"],
        ),
        ("[" * 100_000, ["1: is nested too deeply"]),
        ("x" * (1 << 20) + "y", ["1: is larger than 1 MiB, so it is not a profile"]),
        (f"name: box\nsystem: linux\nname: box\ntransport: {SSH}\n", ["3: name: duplicate key, first used on line 1"]),
        ('name: box\nsystem: "\\ud800"\n', ["2: is not YAML: an unpaired surrogate is not a character"]),
        ("? [a]\n: b\n", ["1: is not YAML: a key must be a word"]),
    ],
)
def test_what_is_no_profile_at_all(text: str | bytes, said: list[str]) -> None:
    assert mistakes(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"system: linux\ntransport: {SSH}\n", "1: name: is missing"),
        (f"name: bax\nsystem: linux\ntransport: {SSH}\n", "1: name: must be the file's own name, box, not 'bax'"),
        (f"name: box\nsystem: linx\ntransport: {SSH}\n", "2: system: no system named 'linx'; did you mean linux?"),
        (
            f"name: box\nsystem: auto\ntransport: {SSH}\n",
            "2: system: auto requires the transport local; available: ",
        ),
        (
            "name: box\nsystem: windows\ntransport: {kind: local}\n",
            "2: system: the transport local is this machine, which does not run windows; use auto",
        ),
        (f"name: box\nsystme: linux\ntransport: {SSH}\n", "2: systme: is not known here; did you mean system?"),
        (f"name: box\nsystem: linux\nsource: /etc\ntransport: {SSH}\n", "3: source: is not known here"),
        ("name: box\nsystem: linux\ntransport: ssh\n", "3: transport: must be a mapping, not 'ssh'"),
        ("name: box\nsystem: linux\ntransport: {}\n", "3: transport.kind: is missing; available: "),
        ("name: box\nsystem: linux\ntransport: {kind: 5}\n", "3: transport.kind: must be text, not 5; available: "),
        (
            "name: box\nsystem: linux\ntransport: {kind: shh, host: a}\n",
            "3: transport.kind: no transport named 'shh'; did you mean ssh?",
        ),
        ("name: box\nsystem: linux\ntransport:\n  kind: ssh\n", "3: transport.host: is missing"),
        (
            "name: box\nsystem: linux\ntransport:\n  kind: ssh\n  hsot: a\n  host: b\n",
            "5: transport.hsot: is not known here; did you mean host?",
        ),
        (
            "name: box\nsystem: linux\ntransport:\n  kind: ssh\n  host: b\n  port: '22'\n",
            "6: transport.port: must be a whole number, not '22'; remove the quotes",
        ),
        (
            "name: box\nsystem: linux\ntransport: {kind: ssh, host: 10}\n",
            "3: transport.host: must be text, not 10; put it in quotes",
        ),
        (
            "name: box\nsystem: linux\ntransport: {kind: ssh, host: true}\n",
            "3: transport.host: must be text, not true; put it in quotes",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\nengines:\n  llamacpp: {{}}\n",
            "5: engines.llamacpp: no engine named 'llamacpp'; did you mean llama.cpp?",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\nengines:\n  llama.cpp:\n    pth: a\n",
            "6: engines.llama.cpp.pth: is not known here; did you mean path?",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\nengines:\n  llama.cpp: {{path: ''}}\n",
            "5: engines.llama.cpp: path must not be empty; omit it to search for llama-server",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\nengines:\n  llama.cpp: {{path: ~/bin/llama-server}}\n",
            "5: engines.llama.cpp: path: ~ is not expanded on a device; write the full path",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\nengines:\n  llama.cpp:\n    env: {{A: 1}}\n",
            "6: engines.llama.cpp.env.A: must be text, not 1; put it in quotes",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\ndefaults: {{thread: 4}}\n",
            "4: defaults.thread: is not known here; did you mean threads?",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\ndefaults: {{threads: 0}}\n",
            "4: defaults: threads must be at least 1, not 0",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\ndefaults: {{threads: 1.5}}\n",
            "4: defaults.threads: must be a whole number, not 1.5",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\ndefaults: {{gpu_layers: most}}\n",
            "4: defaults.gpu_layers: must be a whole number or 'all', not 'most'",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\ndefaults: {{backend: CUDA}}\n",
            "4: defaults.backend: no engine has a backend 'CUDA'; did you mean cuda?",
        ),
        (
            f"name: box\nsystem: linux\ntransport: {SSH}\ndefaults: {{engine: llama}}\n",
            "4: defaults.engine: no engine named 'llama'; did you mean llama.cpp?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_its_field_and_what_is_right(text: str, said: str) -> None:
    (line,) = mistakes(text)
    assert line.startswith(said)


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    said = mistakes("name: bax\nsystem: linx\ntransport:\n  kind: ssh\n  prot: 1\nengines:\n  mlc: {}\n")
    assert [line.split(":")[0] for line in said] == ["1", "2", "3", "5", "7"]


def test_text_is_text_as_in_yaml_1_2() -> None:
    write(f"name: box\nsystem: linux\ndescription: no\ntransport: {SSH}\nworkspace: 10:30\n")
    device = profiles.load_device("box")
    assert (device.description, device.workspace) == ("no", "10:30")


def test_control_characters_of_a_profile_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in "".join(mistakes('name: "\\e[2J"\n"\\e]0;x": 1\n'))
    write(f'name: box\nsystem: linux\ntransport: {SSH}\ndescription: "\\e[2Jx"\n')
    for command in ("list", "show box", "show box --json"):
        result = run("devices", *command.split())
        assert result.exit_code == 0
        assert "\x1b" not in result.output


@given(st.text(max_size=200))
def test_any_text_is_a_profile_or_a_profile_error(text: str) -> None:
    path = Path("any.yaml")
    path.write_text(text, "utf-8", errors="surrogatepass", newline="")
    with pytest.raises(ProfileError):
        profiles.load_device(str(path))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_KEYS = ("name", "system", "transport", "engines", "defaults", "workspace", "description")


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES))
def test_any_values_are_a_device_or_a_profile_error(data: dict[str, object]) -> None:
    path = Path("any.yaml")
    path.write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    with pytest.raises(ProfileError):
        profiles.load_device(str(path))  # no kind of transport among the values


def test_profiles_are_found_here_then_in_the_configuration_then_in_the_package(place: Path) -> None:
    assert profiles.locate("devices", "local") == ROOT / "devices/local.yaml"
    mine = place / "config/edgebench/devices"
    mine.mkdir(parents=True)
    (mine / "local.yaml").write_text("name: local\nsystem: auto\ntransport: {kind: local}\ndescription: mine\n")
    assert profiles.load_device("local").description == "mine"
    write("name: local\nsystem: auto\ntransport: {kind: local}\ndescription: nearest\n", "local.yaml")
    assert profiles.load_device("local").description == "nearest"


def test_an_unknown_name_tells_the_near_one() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "edgebench", "devices", "show", "locale"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "edgebench: no device named 'locale'",
        "  Did you mean local? `edgebench devices list` shows all.",
    ]


@pytest.mark.parametrize(
    ("kind", "typed", "meant"),
    [
        ("models", "SmolLM2-135M", "smollm2-135m-f16 or smollm2-135m-q4_1"),
        ("models", "smolm2", "smollm2-135m-f16 or smollm2-135m-q4_1"),
        ("models", "llama2", "llama-2-7b-chat-q4_0"),
        ("models", "llama", "llama-2-7b-chat-q4_0 or llama-3.2-1b-instruct-q4_0 or llama-3.2-3b-instruct-q4_0"),
        ("models", "Phi 4 mini", "phi-4-mini-instruct-q4_0"),
        ("devices", "oneplus12", "oneplus11 or oneplus11-termux"),
    ],
)
def test_names_are_near_as_people_write_them(kind: profiles.ProfileKind, typed: str, meant: str) -> None:
    with pytest.raises(ProfileError) as caught:
        profiles.locate(kind, typed)
    assert caught.value.hint == f"Did you mean {meant}? `edgebench {kind} list` shows all."


def test_a_name_that_is_near_none_leads_to_the_list() -> None:
    for typed in ("xyzzy", "", "-", "../x"):
        with pytest.raises(ProfileError) as caught:
            profiles.locate("models", typed)
        assert caught.value.hint == "`edgebench models list` shows all."


def test_a_profile_that_is_not_there_or_cannot_be_read() -> None:
    with pytest.raises(ProfileError, match=r"no\.yaml: no such file"):
        profiles.load_device("no.yaml")
    Path("folder.yaml").mkdir()
    with pytest.raises(ProfileError, match=r"folder\.yaml: no such file"):
        profiles.load_device("folder.yaml")


def test_one_broken_profile_does_not_hide_the_others() -> None:
    write("name: box\n")
    result = run("devices", "list")
    assert result.exit_code == 2
    assert "local" in result.stdout
    assert "devices/box.yaml:1: system: is missing" in result.stderr


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "devices").glob("*.yaml")])
def test_every_shipped_device_is_sound_and_fits_the_schema(name: str) -> None:
    device = profiles.load_device(str(ROOT / f"devices/{name}.yaml"))
    assert device.name == name
    assert device.description
    assert set(device.engines) <= set(plugins.names("engines"))
    jsonschema.validate(Document(ROOT / f"devices/{name}.yaml").data, schemas.device())


def test_the_devices_of_2023_are_there() -> None:
    laptop = {"rog-m16-windows", "rog-m16-linux"}
    assert laptop | {"local", "mac-studio-m2-ultra", "oneplus11", "oneplus11-termux", "a6000-server"} <= set(
        profiles.names("devices")
    )
    for name in laptop:
        assert profiles.load_device(name).defaults["threads"] == 14


def test_the_shipped_local_device_is_this_machine() -> None:
    device = profiles.load_device("local")
    assert device.transport == {"kind": "local"}
    assert device.system == {"linux": "linux", "darwin": "macos", "win32": "windows"}[sys.platform]


@pytest.mark.parametrize("kind", ["device", "model"])
def test_the_schema_in_the_docs_is_the_programs(kind: str) -> None:
    printed = run(f"{kind}s", "schema").stdout
    there = (ROOT / f"docs/schemas/{kind}.json").read_text("utf-8")
    assert there == printed, "make it anew: python docs/generate.py"
    jsonschema.Draft7Validator.check_schema(json.loads(there))


def test_the_schema_refuses_what_the_program_refuses() -> None:
    good = {"name": "box", "system": "linux", "transport": {"kind": "ssh", "host": "a"}}
    jsonschema.validate(good, schemas.device())
    for wrong in ({"system": "lunix"}, {"transport": {"kind": "ssh"}}, {"extra": 1}, {"defaults": {"threads": "4"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | wrong, schemas.device())


def test_devices_show_as_people_and_programs_read_it() -> None:
    write(f"name: box\nsystem: linux\ntransport: {SSH}\ndefaults: {{threads: 4}}\n")
    shown = run("devices", "show", "box").stdout
    assert "kind: ssh, host: box" in shown
    assert "threads: 4" in shown
    document = json.loads(run("devices", "show", "box", "--json").stdout)
    assert document["schema"] == 2
    assert document["device"]["transport"] == {"kind": "ssh", "host": "box"}
    assert document["device"]["workspace"]
    listed = json.loads(run("devices", "list", "--json").stdout)["devices"]
    assert {"box", "local"} <= {device["name"] for device in listed}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("devices show loc", ["plain,local"]),
        ("run --model smollm2-135m-q", ["plain,smollm2-135m-q4_1"]),
        ("run --engine llama.", ["plain,llama.cpp"]),
        ("run --scenario ch", ["plain,chat"]),
        ("speculative --backend vul", ["plain,vulkan"]),
        ("res", ["plain,results"]),
        ("run --load-t", ["plain,--load-timeout"]),
    ],
)
def test_the_shell_completes_names(typed: str, offered: list[str]) -> None:
    words = f"edgebench {typed}"
    environment = os.environ | {
        "_EDGEBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    program = "import sys; sys.argv = ['edgebench']; from edgebench.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == offered


def test_the_wheel_brings_the_profiles(tmp_path: Path) -> None:
    tree = tmp_path / "tree"  # a copy: building leaves traces
    for part in ("edgebench", "devices", "models"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")):
        shutil.copy(path, tree)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, tree],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        inside = set(archive.namelist())
    for kind in ("devices", "models"):
        shipped = {f"edgebench/data/{kind}/{path.name}" for path in (ROOT / kind).glob("*.yaml")}
        assert shipped == {name for name in inside if name.startswith(f"edgebench/data/{kind}/")}
    program = "from edgebench import profiles; print(profiles.locate('models', 'smollm2-135m-q4_1'))"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == tmp_path / "site/edgebench/data/models/smollm2-135m-q4_1.yaml"


def test_ones_own_profiles_are_those_of_the_first_folder_that_has_any(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shipped = profiles.user_profiles("devices")
    assert {"local", "oneplus11"} <= set(shipped)
    configured = tmp_path / "config" / "edgebench" / "devices"
    configured.mkdir(parents=True)
    (configured / "mine.yaml").touch()
    assert profiles.user_profiles("devices") == ["mine"]
    (tmp_path / "devices").mkdir()
    assert profiles.user_profiles("devices") == ["mine"]
    (tmp_path / "devices" / "b.yaml").touch()
    (tmp_path / "devices" / "a.yml").touch()
    assert profiles.user_profiles("devices") == ["a", "b"]
