"""How fast a model is sent, against ``scp`` and ``adb push`` side by side, over the lab's loopback.

    python benchmarks/push.py [--megabytes 100] [--rounds 5]

Prints MB/s of every round, their median, and the median of the rounds' ratios to the usual program (at
least 0.8): the sending alone on both sides, since neither program looks afterwards whether all arrived.
Then the seconds until a new model is verified on the device and those until an unchanged one is found
unchanged (below 1), and what a push that broke at half still sends (the other half).
"""

from __future__ import annotations

import argparse
import hashlib
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
from lab.proxy import Proxy
from lab.sshd import Sshd

from edgebench.core import Device, ModelFile, Transport
from edgebench.device import provision
from edgebench.device.session import Session
from edgebench.errors import DeviceLost
from edgebench.transports.adb import Adb
from edgebench.transports.ssh import Ssh


def unchanged(device: Device, model: ModelFile, rounds: int) -> None:
    """Seconds until a model that is on a device is known to be there, connecting not counted."""
    with Session(device) as session:
        began = time.perf_counter()
        provision.deploy_model(session, model)
        print(f"new model, {device.name}: sent, verified and named in {time.perf_counter() - began:.2f} s")
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            provision.deploy_model(session, model)
            seconds.append(time.perf_counter() - began)
        print(
            f"unchanged model, {device.name}: found unchanged in {statistics.median(seconds) * 1e3:.0f} ms (below 1 s)"
        )
        began = time.perf_counter()
        session.run(
            session.system.files.sha256(str(Path(session.workspace) / "models" / f"{model.sha256}.gguf")).command
        )
        print(f"  (reading it through would take {(time.perf_counter() - began) * 1e3:.0f} ms)")


def interrupted(device: Device, wire: Proxy, model: ModelFile) -> None:
    """Cut the wire at half, send again, and count the bytes that go."""
    wire.cut_after(model.size // 2)
    try:
        with Session(device) as session:
            provision.deploy_model(session, model)
    except DeviceLost:
        pass
    wire.cut_after(1 << 60)
    before = wire.sent
    with Session(device) as session:
        provision.deploy_model(session, model)
    again = wire.sent - before
    print(f"push cut at half, {device.name}: {again / model.size:.1%} of the model sent afterwards (one half)")


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
            pairs = [x / y for x, y in zip(rates[mine], rates[usual], strict=True)]
            print(f"{mine} / {usual}: {statistics.median(pairs):.2f}, rounds", *(f"{pair:.2f}" for pair in pairs))
        adb.close()
        ssh.close()
        for made in folder.glob("*-[0-9]*"):
            made.unlink()
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        model = ModelFile("model", file, sha256, file.stat().st_size, "gguf", "", "")
        wires = Proxy(sshd.port), Proxy(phone.port)
        sshd.knows(wires[0].port)
        thin = dict(sshd.transport) | {"port": wires[0].port}
        wifi: dict[str, object] = {"kind": "adb", "serial": f"127.0.0.1:{wires[1].port}", "port": server.port}
        phones: dict[str, object] = {"kind": "adb", "serial": phone.serial, "port": server.port}
        unchanged(Device("ssh", "linux", sshd.transport, workspace=f"{folder}/a"), model, options.rounds)
        unchanged(Device("adb", "android", phones, workspace=f"{phone.home}/a"), model, options.rounds)
        interrupted(Device("ssh", "linux", thin, workspace=f"{folder}/b"), wires[0], model)
        interrupted(Device("adb", "android", wifi, workspace=f"{phone.home}/b"), wires[1], model)
        for wire in wires:
            wire.stop()
        phone.stop()
        server.stop()
        sshd.stop()


if __name__ == "__main__":
    main()
