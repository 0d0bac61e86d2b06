"""What twenty devices at once cost the controller: its memory and its processor time, over the lab's loopback.

    python benchmarks/devices.py [--devices 20] [--rounds 3] [--model FILE]

Every device is an sshd of its own with a folder of its own, and runs a real llama-server on a
tiny model, so that the controller and not the engines are what is kept busy. The targets: at most
300 MB, and at most one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from lab.native import bin_folder
from lab.sshd import Sshd
from lab.tiny import tiny

QUICK = ["--prompt-tokens", "64", "--gen-tokens", "128", "--ctx", "256", "--threads", "1"]


def profiles(folder: Path, devices: dict[str, Sshd]) -> None:
    """Write one for each device."""
    (folder / "devices").mkdir()
    for name, sshd in devices.items():
        engine = {"path": str(bin_folder() / "llama-server"), "env": {"LD_LIBRARY_PATH": str(bin_folder())}}
        about = {
            "name": name,
            "system": "linux",
            "transport": sshd.transport,
            "workspace": str(folder / "spaces" / name),
            "engines": {"llama.cpp": engine},
        }
        (folder / "devices" / f"{name}.yaml").write_text(yaml.safe_dump(about))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        devices = {name: Sshd(folder / name) for name in (f"lab-{number}" for number in range(options.devices))}
        profiles(folder, devices)
        model = options.model or tiny(folder / "tiny.gguf")
        command = [sys.executable, "-m", "edgebench", "run", "-m", str(model), "--rounds", str(options.rounds)]
        command += [*QUICK, "--json", "result.json", *(word for one in devices for word in ("-d", one))]
        environment = {**os.environ, "EDGEBENCH_SETTLE": "0", "OMP_WAIT_POLICY": "passive"}
        began = time.monotonic()
        with (folder / "said").open("wb") as said:
            run = psutil.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
            most, used = 0, 0.0
            while run.poll() is None:
                try:
                    most = max(most, run.memory_info().rss)
                    used = sum(run.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    break
                time.sleep(0.1)
        seconds = time.monotonic() - began
        for sshd in devices.values():
            sshd.stop()
        if run.wait() != 0:
            sys.exit((folder / "said").read_text()[-3000:])
        records = json.loads((folder / "result.json").read_text())["records"]
        whole = sum(record["status"] == "ok" and len(record["rounds"]) == options.rounds for record in records)
    print(f"{whole} of {options.devices} devices measured {options.rounds} rounds in {seconds:.0f} s")
    print(f"controller: {most / 1e6:.0f} MB at most (target: 300), {used / seconds:.2f} cores (target: 1)")


if __name__ == "__main__":
    main()
