"""How fast a model is sent, against ``scp`` and ``adb push`` side by side, over the lab's loopback.

    python benchmarks/push.py [--megabytes 100] [--rounds 5]

Prints MB/s of every round, their median, and the ratio to the usual program (the target is 0.8).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from lab.android import AdbServer, Phone
from lab.sshd import Sshd

from edgebench.core import Transport
from edgebench.transports.adb import Adb
from edgebench.transports.ssh import Ssh


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "model"
        file.write_bytes(os.urandom(options.megabytes * 1_000_000))
        server, phone, sshd = AdbServer(folder), Phone(folder / "phone"), Sshd(folder / "sshd")
        server.adb("connect", phone.serial)
        settings = {key: value for key, value in sshd.transport.items() if key != "kind"}
        ssh: Transport = Ssh(Ssh.Config(**settings))  # type: ignore[arg-type]
        adb: Transport = Adb(Adb.Config(serial=phone.serial, port=server.port))
        ssh.open()
        adb.open()
        scp = ["scp", "-q", "-i", sshd.key, "-P", str(sshd.port), "-o", f"UserKnownHostsFile={sshd.known_hosts}", file]
        ways: dict[str, Callable[[str], object]] = {
            "scp": lambda to: subprocess.run([*scp, f"127.0.0.1:{folder}/{to}"], check=True),
            "edgebench ssh": lambda to: ssh.push(file, f"{folder}/{to}"),
            "adb push": lambda to: server.adb("push", str(file), f"{phone.home}/{to}"),
            "edgebench adb": lambda to: adb.push(file, f"{phone.home}/{to}"),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(options.rounds):
            for way, send in ways.items():
                began = time.perf_counter()
                send(f"{way}-{number}".replace(" ", "-"))
                rates[way].append(options.megabytes / (time.perf_counter() - began))
        for way, found in rates.items():
            print(f"{way:14}", *(f"{rate:6.0f}" for rate in found), f"  median {statistics.median(found):.0f} MB/s")
        for mine, usual in (("edgebench ssh", "scp"), ("edgebench adb", "adb push")):
            print(f"{mine} / {usual}: {statistics.median(rates[mine]) / statistics.median(rates[usual]):.2f}")
        adb.close()
        ssh.close()
        phone.stop()
        server.stop()
        sshd.stop()


if __name__ == "__main__":
    main()
