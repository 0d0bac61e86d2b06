"""Windows: what is sent to it and what is read from it, by cmd's rules written down here; the lab runs it
through wine's cmd (``test_windows_lab``). There is no PowerShell in the lab."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.paths import RECORDED

from edgebench import profiles
from edgebench.core import Command, DeviceFacts, FileState, Folder, Gpu
from edgebench.errors import Unreadable, UsageError
from edgebench.systems import cmd, powershell, windows
from edgebench.systems import windows_facts as facts
from edgebench.systems.windows_files import parse_folder, parse_sha256, parse_state

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


def read_by_cmd(text: str) -> str:
    """What cmd.exe makes of a command line: each caret takes the meaning of the next character, and goes."""
    return re.sub(r"\^(.)", r"\1", text, flags=re.S)


@given(TEXT)
def test_nothing_special_is_left_to_cmd(text: str) -> None:
    escaped = cmd.escape(text)
    assert read_by_cmd(escaped) == text
    assert not re.search(r"""(?<!\^)["&|<>()%! ]""", escaped.replace("^^", ""))
    # %NAME% is looked up with a caret at the name's end, which no variable has.
    assert not re.search(r"%[^%^]+%", escaped)


@given(st.lists(TEXT, max_size=5))
def test_arguments_arrive_as_they_are(arguments: list[str]) -> None:
    line = windows.Windows().quote(["C:\\a b\\prog.exe", *arguments])
    program = '"C:\\a b\\prog.exe"'
    assert line.startswith(program)
    rest = line.removeprefix(program)
    assert taken_apart(read_by_cmd(rest)) == arguments


@given(TEXT)
def test_a_literal_holds_any_text(text: str) -> None:
    quoted = powershell.literal(text)
    assert unquoted(quoted) == text
    # No quote stands alone inside, of any kind that PowerShell takes for one.
    assert not re.sub("(['\u2018\u2019\u201a\u201b])\\1", "", quoted[1:-1]).strip("\0").count("'")


def test_a_command_too_long_for_cmd_is_refused() -> None:
    with pytest.raises(UsageError, match="8150"):
        windows.Windows().quote(["prog", "x" * 9000])


def test_the_watcher_holds_no_secret_and_takes_one() -> None:
    command = Command(["server.exe", "--port", "1"], {"A": "it's"}, "C:\\w", ("KEY",))
    text = windows.Windows().supervise(command, "@tag")
    assert "set A=it^'s&" in text
    said = read_by_cmd(text)
    assert said.index("set /p KEY=") < said.index("tasklist /fi", said.index("set /p KEY="))
    with pytest.raises(UsageError, match="one secret"):
        windows.Windows().supervise(Command(["a"], secrets=("A", "B")), "@tag")


def test_facts_by_cmd_of_windows_11() -> None:
    """The registry of Windows 11 still says 10: the build tells. The word in ``ver`` is localised."""
    text = (
        "threads=20\r\nmachine=AMD64\r\n\r\nMicrosoft Windows [Versión 10.0.22631.4317]\r\n\r\n"
        "HKEY_LOCAL_MACHINE\\HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0\r\n"
        "    ProcessorNameString    REG_SZ    13th Gen Intel(R) Core(TM) i9-13900H\r\n\r\n\r\n"
        "HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\r\n"
        "    ProductName    REG_SZ    Windows 10 Pro\r\n"
    )
    assert facts.parse_cmd(text) == DeviceFacts(
        threads=20,
        architecture="x86_64",
        cpu="13th Gen Intel(R) Core(TM) i9-13900H",
        kernel="Windows NT 10.0.22631",
        os="Windows 11 Pro",
    )
    with pytest.raises(Unreadable, match="login shell"):
        facts.parse_cmd("threads=%NUMBER_OF_PROCESSORS%\nmachine=%PROCESSOR_ARCHITECTURE%\n")


@pytest.mark.parametrize("name", ["cpu", "os", "display", "power"])
def test_no_answer_of_powershell_is_not_an_empty_one(name: str) -> None:
    fact = facts.FACTS[name]
    assert fact.parse(f"\r\n\r\n{facts.END_MARKER}\r\n") == DeviceFacts()
    with pytest.raises(Unreadable, match="did not respond"):
        fact.parse("")
    assert facts.END_MARKER in script(fact.command)


def test_ram_by_wmic() -> None:
    """In UTF-16, as wine prints it into a pipe, read as UTF-8; and plain."""
    assert facts.parse_wmic("\ufffd\ufffdT\0o\0tal") == DeviceFacts()
    text = "TotalVisibleMemorySize  \r\n33200000                \r\n"
    assert facts.parse_wmic(text) == DeviceFacts(ram_b=33200000 * 1024)
    assert facts.parse_wmic("\ufffd\ufffd" + "".join(f"{char}\0" for char in text)) == DeviceFacts(
        ram_b=33200000 * 1024
    )


def test_facts_of_a_laptop() -> None:
    text = (
        "\r\n\r\nName                      : 13th Gen Intel(R) Core(TM) i9-13900H\r\n"
        "NumberOfCores             : 14\r\nNumberOfLogicalProcessors : 20\r\n\r\n"
    )
    assert facts.parse_processor(text) == DeviceFacts(cpu="13th Gen Intel(R) Core(TM) i9-13900H", cores=14, threads=20)
    text = "Caption : Microsoft Windows 11 Pro\r\nVersion : 10.0.22631\r\nTotalVisibleMemorySize : 33200000\r\n"
    assert facts.parse_system(text) == DeviceFacts(
        os="Microsoft Windows 11 Pro", kernel="Windows NT 10.0.22631", ram_b=33200000 * 1024
    )


def test_two_sockets_are_added_up() -> None:
    one = "Name : Xeon\nNumberOfCores : 20\nNumberOfLogicalProcessors : 40\n"
    assert facts.parse_processor(f"{one}\n\n{one}") == DeviceFacts(cpu="Xeon", cores=40, threads=80)


def test_a_display_as_a_real_machine_prints_it() -> None:
    text = (RECORDED / "videocontroller-uhd.txt").read_text(encoding="utf-8")
    assert facts.parse_displays(text) == DeviceFacts(gpus=(Gpu("Intel(R) UHD Graphics"),))


@pytest.mark.parametrize("parse", [facts.parse_processor, facts.parse_system, facts.parse_displays])
def test_an_empty_answer_is_no_value(parse) -> None:
    assert parse("") == DeviceFacts()
    assert parse("\r\n\r\n") == DeviceFacts()


@pytest.mark.parametrize(("text", "source"), [("1", "battery"), ("2", "mains"), ("", None), ("7", None)])
def test_power_source(text: str, source: str | None) -> None:
    found = facts.parse_battery(f"BatteryStatus : {text}\n" if text else "")
    assert found.power_source == source


def test_a_folder_and_its_free_space() -> None:
    """``dir /-c`` of a German Windows: the last number is the free bytes in any language."""
    text = (
        "C:\\Users\\ä b\\AppData\\Local\\edgebench\r\n Datenträger in Laufwerk C: ist Windows\r\n\r\n"
        "22.11.2026  03:16    <DIR>          .\r\n               0 Datei(en),              0 Bytes\r\n"
        "               2 Verzeichnis(se), 123456789 Bytes frei\r\n"
    )
    assert parse_folder(text) == Folder("C:\\Users\\ä b\\AppData\\Local\\edgebench", 123456789)
    with pytest.raises(Unreadable):
        parse_folder("Access is denied.")


def test_files_by_their_answers() -> None:
    assert parse_state("98000000 -ra------\r\n") == FileState(98000000, True)
    assert parse_state("0 d----------\r\n") == FileState(0, False)
    digits = "ab" * 32
    assert parse_sha256(f"SHA256-Hash von x:\r\n{digits}\r\nCertUtil: erfolgreich.\r\n") == digits
    assert parse_sha256(f"SHA256 hash of file x:\r\n{' '.join(['AB'] * 32)}\r\n") == digits
    for parse in (parse_state, parse_sha256):
        with pytest.raises(Unreadable):
            parse("CertUtil: -hashfile command FAILED: 0x80070002\r\n")


def test_the_shipped_profile_is_for_it() -> None:
    device = profiles.load_device("rog-m16-windows")
    assert (device.system, device.transport["kind"]) == ("windows", "ssh")
