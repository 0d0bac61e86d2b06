"""A phone over ADB whose MLCChat app is played."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.android import AdbServer, Phone
from lab.mlc import weights

COMMANDS = ("am", "pm", "pidof", "dumpsys", "logcat", "screencap", "uiautomator", "input")


class Mlcchat:
    """The phone, what its app lists, and one thing that goes wrong."""

    def __init__(self, folder: Path, server: AdbServer) -> None:
        self.folder = folder
        self.state = folder / "state.json"
        self.model = weights(folder / "here" / "tiny-q4f16_1-MLC")
        self.files = folder / "storage emulated 0" / "files"
        self.phone = Phone(folder / "phone")
        player = Path(__file__).with_name("mlcchat_player.py")
        for name in COMMANDS:
            program = folder / "phone" / "bin" / name
            program.unlink(missing_ok=True)
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{player}" "{self.state}" {name} "$@"\n')
            program.chmod(0o755)
        transport = {"kind": "adb", "serial": self.phone.serial, "port": server.port}
        about = {
            "name": "phone",
            "system": "android",
            "transport": transport,
            "workspace": str(self.phone.home / "edge"),
        }
        (folder / "phone.yaml").write_text(yaml.safe_dump({**about, "engines": {"mlc-llm": {}}}))
        self.profile = str(folder / "phone.yaml")
        self.set()

    def set(self, fault: str = "", **more: Any) -> None:
        names = ["other-1B-q4f16_1-MLC", "other-2B-q4f16_1-MLC", "tiny-q4f16_1-MLC"]
        self.state.write_text(json.dumps({"screen": "launcher", "pid": 0, "fault": fault, "models": names, **more}))

    def stop(self) -> None:
        from lab.mlcchat_player import Phone as Played

        Played(self.state).kill()
        self.phone.stop()


@pytest.fixture
def mlcchat(tmp_path: Path, adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mlcchat]:
    from edgebench.engines import mlc_app

    phone = Mlcchat(tmp_path, adb_server)
    monkeypatch.setattr(mlc_app, "FILES", str(phone.files))
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEBENCH_STORE", str(tmp_path / f"store{time.monotonic_ns()}.sqlite"))
    yield phone
    phone.stop()
