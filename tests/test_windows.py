"""Windows: what is sent to it and what is read from it. There is no PowerShell in the lab: scripts are
taken apart here and compared with what they must say; nothing of this was seen on a real Windows."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench import profiles
from edgebench.core import Command
from edgebench.errors import Unreadable, UsageError
from edgebench.systems import powershell, windows
from edgebench.systems.windows_files import parse_folder

RECORDED = Path(__file__).parent / "recorded"
TEXT = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=30)


def script(line: str) -> str:
    """The PowerShell script in a command line for cmd.exe."""
    words = line.split(" ")
    assert words[:-1] == ["powershell", "-NoProfile", "-NonInteractive", "-EncodedCommand"]
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", words[-1])  # nothing in it that cmd.exe would read
    return base64.b64decode(words[-1]).decode("utf-16-le")


def unquoted(text: str) -> str:
    """A PowerShell single-quoted string's value: each doubled quote is one."""
    assert text[0] == text[-1] == "'"
    return re.sub("(['\u2018\u2019\u201a\u201b])\\1", r"\1", text[1:-1])


def taken_apart(line: str) -> list[str]:
    """An argument line as CommandLineToArgvW takes it apart (Microsoft, "Parsing C command-line arguments")."""
    argv, word, quoted, there, at = [], "", False, False, 0
    while at < len(line):
        slashes = len(line[at:]) - len(line[at:].lstrip("\\"))
        at += slashes
        if at < len(line) and line[at] == '"':
            word += "\\" * (slashes // 2)
            if slashes % 2:
                word += '"'
            else:
                quoted, there = not quoted, True
        else:
            word += "\\" * slashes
            if at < len(line):
                if line[at] in " \t" and not quoted:
                    if word or there:
                        argv.append(word)
                    word, there = "", False
                else:
                    word += line[at]
        at += 1
    return [*argv, word] if word or there else argv


@given(st.lists(TEXT, max_size=5))
def test_arguments_arrive_as_they_are(arguments: list[str]) -> None:
    text = script(windows.Windows().quote(["C:\\a b\\prog.exe", *arguments]))
    program = re.search(r"ProcessStartInfo ('(?:[^']|'')*');", text)
    line = re.search(r"\$i\.Arguments=('(?:[^']|'')*');\$i\.Use", text)
    assert program and line
    assert unquoted(program[1]) == "C:\\a b\\prog.exe"
    assert taken_apart(unquoted(line[1])) == arguments


@given(TEXT)
def test_a_literal_holds_any_text(text: str) -> None:
    quoted = powershell.literal(text)
    assert unquoted(quoted) == text
    # No quote stands alone inside, of any kind that PowerShell takes for one.
    assert not re.sub("(['\u2018\u2019\u201a\u201b])\\1", "", quoted[1:-1]).strip("\0").count("'")


def test_a_command_too_long_for_cmd_is_refused() -> None:
    with pytest.raises(UsageError, match="8191"):
        windows.Windows().quote(["prog", "x" * 5000])


def test_the_watcher_takes_secrets_from_standard_input_and_answers_in_band() -> None:
    command = Command(["server.exe", "--port", "1"], {"A": "it's"}, "C:\\w", ("KEY",))
    text = script(windows.Windows().supervise(command, "@tag"))
    assert "$env:KEY=$n.ReadLine()" in text
    assert "EnvironmentVariables['A']='it''s'" in text
    assert text.index("ReadLine()") < text.index("Process]::Start")
    assert '"@tag pid $($p.Id) $(up)"' in text
    assert '"@tag exit $($p.ExitCode) $(up)"' in text


def test_facts_of_a_laptop() -> None:
    text = (
        "\r\n\r\nName                      : 13th Gen Intel(R) Core(TM) i9-13900H\r\n"
        "NumberOfCores             : 14\r\nNumberOfLogicalProcessors : 20\r\n\r\n"
    )
    assert windows.parse_processor(text) == {"cpu": "13th Gen Intel(R) Core(TM) i9-13900H", "cores": 14, "threads": 20}
    text = "Caption : Microsoft Windows 11 Pro\r\nVersion : 10.0.22631\r\nTotalVisibleMemorySize : 33200000\r\n"
    facts = windows.parse_system(text)
    assert facts == {"os": "Microsoft Windows 11 Pro", "kernel": "Windows NT 10.0.22631", "ram_b": 33200000 * 1024}


def test_two_sockets_are_added_up() -> None:
    one = "Name : Xeon\nNumberOfCores : 20\nNumberOfLogicalProcessors : 40\n"
    assert windows.parse_processor(f"{one}\n\n{one}") == {"cpu": "Xeon", "cores": 40, "threads": 80}


def test_a_display_as_a_real_machine_prints_it() -> None:
    text = (RECORDED / "videocontroller-uhd.txt").read_text(encoding="utf-8")
    assert windows.parse_displays(text) == {"gpus": [{"name": "Intel(R) UHD Graphics"}]}


@pytest.mark.parametrize("parse", [windows.parse_processor, windows.parse_system, windows.parse_displays])
def test_an_empty_answer_is_no_value(parse) -> None:
    assert parse("") == {}
    assert parse("\r\n\r\n") == {}


@pytest.mark.parametrize(("text", "source"), [("1", "battery"), ("2", "mains"), ("", None), ("7", None)])
def test_power_source(text: str, source: str | None) -> None:
    found = windows.parse_battery(f"BatteryStatus : {text}\n" if text else "")
    assert found.get("power_source") == source


def test_a_folder_and_its_free_space() -> None:
    text = "C:\\Users\\ä b\\AppData\\Local\\edgebench\r\n123456789\r\n"
    assert parse_folder(text) == {"path": "C:\\Users\\ä b\\AppData\\Local\\edgebench", "free_b": 123456789}
    with pytest.raises(Unreadable):
        parse_folder("Access is denied.")


def test_the_shipped_profile_is_for_it() -> None:
    device = profiles.load_device("rog-m16-windows")
    assert (device.system, device.transport["kind"]) == ("windows", "ssh")
