"""llama.cpp's own server: ``llama-server`` where the profile says, or the bundled one on this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from edgebench.core import (
    Client,
    Command,
    DeviceSession,
    Drafting,
    EngineFacts,
    Launch,
    Query,
    Reply,
    Request,
    arguments,
    options_as,
)
from edgebench.device import provenance
from edgebench.engines import llama_queries, llama_server
from edgebench.engines.llama_options import LlamaOptions
from edgebench.errors import EngineFailed, EngineMissing, NoEngine, UsageError

NGRAM = 3
"""Tokens that must have stood together before, where drafts are looked up in the text. llama.cpp's
own default of 12 hardly ever finds anything in a short text."""


@dataclass(frozen=True)
class Settings:
    """What a profile may say of it."""

    path: str | None = None
    """``llama-server`` on the device; absent on this machine: the bundled server."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the engine's process only, such as ``LD_LIBRARY_PATH``."""
    rpc: str | None = None
    """``ggml-rpc-server`` on the device, for ``--rpc``; beside ``llama-server`` where absent."""

    def __post_init__(self) -> None:
        if self.path == "":
            raise ValueError("path must not be empty; leave it out for the llama-server that is found")
        for name in ("path", "rpc"):
            if (getattr(self, name) or "").startswith("~"):
                raise ValueError(f"{name}: ~ stands for nothing on a device; write the whole path")


ALL_LAYERS = 999
"""More than any model has."""

RPC_SERVERS = ("ggml-rpc-server", "rpc-server")
"""Names of the program; the second one until b9823."""


class LlamaCpp(llama_server.Dialect):
    """One ``llama-server`` binary of any build from 2024 on: flags are chosen from its ``--help``."""

    Config = Settings
    k_per_request = False
    drafts_without_model = ("ngram-simple", "ngram-map-k", "ngram-map-k4v")
    ends_drafts = True
    capabilities = llama_queries.CAPABILITIES

    def __init__(self, device: DeviceSession, config: Settings) -> None:
        self._device = device
        self._config = config
        self._flags: frozenset[str] = frozenset()
        self._rereads = False
        self.bundled = config.path is None and device.is_local

    def prepare(self) -> EngineFacts:
        if self._config.path is None and not self.bundled:
            self._config = self._find()
        offered = self._say("--help")
        # Builds with this way of drafting let the draft evaluate every batch of the target as well.
        self._flags, self._rereads = help_flags(offered), "draft-simple" in offered
        if "--model" not in self._flags:
            raise EngineMissing(
                f"{self._program()[0]} does not answer --help as llama-server does",
                "Name llama.cpp's llama-server, no other of its programs, as the engine's path.",
            )
        path = self._program()[-1]
        return replace(
            version(self._say("--version")),
            name="llama.cpp",
            path=path,
            sha256=None if self.bundled else provenance.program_sha256(self._device, path),
            extra={"bundled": self.bundled},
        )

    def command(self, launch: Launch, port: int) -> Command:
        devices = self._rpc_devices(launch.rpc) if launch.rpc and launch.backend == "cpu" else None
        argv = [*self._program(), *flags(launch, self._flags, devices), "--host", "127.0.0.1", "--port", str(port)]
        return Command(argv, env=self._config.env, secrets=(llama_server.KEY_VARIABLE,))

    def routine(self) -> Command:
        near = self._config.path
        if near is None:
            from importlib.util import find_spec

            wheel = find_spec("xllamacpp")
            near = str(wheel.origin) if wheel else ""
        python = sys.executable if self._device.is_local else "python3"
        return Command([python, "-", near], env=self._config.env)

    def ready_line(self, text: str) -> bool:
        return llama_server.ready_line(text)

    def complete(self, client: Client, request: Request) -> Reply:
        return llama_server.complete(client, request)

    def answer(self, client: Client, query: Query) -> Reply:
        return llama_queries.answer(client, query, self._rereads)

    def _find(self) -> Settings:
        """What ``edgebench devices setup`` put there, else what the device has on its PATH."""
        system, files = self._device.system, self._device.system.files
        folder = files.join(self._device.workspace, "engines", "llama.cpp")
        placed = files.state(path := files.join(folder, f"llama-server{system.suffix}"))
        if placed.parse(self._device.run(placed.command).stdout):
            # Windows looks for a program's libraries beside it.
            libraries = {} if system.suffix else {"LD_LIBRARY_PATH": folder}
            return replace(self._config, path=path, env={**libraries, **self._config.env})
        found = system.find("llama-server")
        if there := found.parse(self._device.run(found.command).stdout):
            return replace(self._config, path=there)
        raise NoEngine(
            f"no llama.cpp on {self._device.device.name}: the profile names no engines: llama.cpp: path",
            f"Put one there with `edgebench devices setup {self._device.device.name}`, or name its path.",
        )

    def find_rpc(self) -> Mapping[str, object]:
        """The program that lends this device to another one's engine: ``program``. Raises ``EngineMissing``."""
        if self._config.rpc is None:
            self._config = replace(self._config, rpc=self._beside(RPC_SERVERS))
        assert self._config.rpc is not None
        sha256 = provenance.program_sha256(self._device, self._config.rpc)
        return {"program": self._config.rpc, **({"sha256": sha256} if sha256 else {})}

    def rpc_command(self, port: int) -> Command:
        """After ``find_rpc``: it listens on the device's loopback. It has no key to ask for."""
        assert self._config.rpc is not None
        argv = [self._config.rpc, "-H", "127.0.0.1", "-p", str(port)]
        threads = self._device.device.defaults.get("threads")
        return Command([*argv, *(["-t", str(threads)] if threads else [])], env=self._config.env)

    def rpc_facts(self, log: Sequence[str]) -> Mapping[str, object]:
        return rpc_facts(log)

    def _beside(self, names: Sequence[str]) -> str:
        """The first of these programs in the folder of ``llama-server``."""
        name = self._device.device.name
        if self.bundled:
            raise EngineMissing(
                f"the bundled server of {name} cannot hold a part of another's model",
                "Name a llama.cpp of its own in the profile: engines: llama.cpp: path.",
            )
        if self._config.path is None:
            self._config = self._find()
        assert self._config.path is not None
        files = self._device.system.files
        folder = re.sub(r"[^\\/]*$", "", self._config.path)
        for program in names:
            path = folder + program + self._device.system.suffix
            there = files.state(path)
            if there.parse(self._device.run(there.command).stdout):
                return path
        raise EngineMissing(
            f"no ggml-rpc-server in {folder or 'the folder of llama-server'} on {name}",
            "It comes with builds made with -DGGML_RPC=ON. Name it in the profile: engines: llama.cpp: rpc.",
        )

    def _rpc_devices(self, addresses: str) -> str | None:
        """The devices behind RPC servers as this build names them: what a run without a GPU may use.

        Raises ``EngineFailed`` with its words where a server doesn't answer as this build expects.
        """
        if "--list-devices" not in self._flags or "--rpc" not in self._flags:
            return None
        try:
            said = self._say("--rpc", addresses, "--list-devices")
        except EngineMissing as error:
            raise EngineFailed(
                f"llama-server cannot use the RPC servers at {addresses}: {error}",
                "Both sides must be of the same build of llama.cpp, or of builds with the same RPC protocol.",
            ) from error
        found = re.findall(r"^\s*(RPC[^:\s]*(?:\[[^\]]*\])?): ", said, re.M)
        if not found:
            raise EngineFailed(
                f"llama-server found no device behind the RPC servers at {addresses}: {said.strip()[-400:]}"
            )
        return ",".join(found)

    def _program(self) -> list[str]:
        if self._config.path is not None:
            return [self._config.path]
        return [sys.executable, str(Path(__file__).parent.parent / "servers" / "bundled.py")]

    def _say(self, *flags: str) -> str:
        hint = "Check that the file is there, is executable and was built for this device."
        return llama_server.printed(self._device, [*self._program(), *flags], self._config.env, timeout=60, hint=hint)


_FLAG = r"-{1,2}[A-Za-z][\w-]*"
_VALUE = r"(?:[ =][^\s,-][^,]*)?"
_HEAD = re.compile(rf"\s*({_FLAG}{_VALUE}(?:,\s*{_FLAG}{_VALUE})*)")


def help_flags(text: str) -> frozenset[str]:
    """The flags that a ``--help`` text offers: those at the beginning of its lines."""
    heads = (_HEAD.match(line) for line in text.splitlines())
    return frozenset(flag for head in heads if head for flag in re.findall(rf"(?<![\w-]){_FLAG}", head[1]))


def version(text: str) -> EngineFacts:
    """``build`` (such as ``b11549`` or ``b10470-34af94cd9``) and ``instruction_sets`` of ``--version``.

    The number's form changed at b10394, and builds from a source archive call themselves 1.
    """
    build = re.search(r"\(build (\d+), commit ([0-9a-f]+)\)", text)
    build = build or re.search(r"version:\s*b?(\d+)(?![\d.])(?:\s*\(([0-9a-f]{6,})\))?", text)
    return EngineFacts(
        build=f"b{build[1]}" + (f"-{build[2]}" if build[2] else "") if build else None,
        instruction_sets=instruction_sets(text),
    )


def instruction_sets(text: str) -> tuple[str, ...]:
    """Names set to 1 in a line such as ``CPU : SSE3 = 1 | AVX2 = 1 | …``."""
    line = re.search(r"CPU : ((?:\w+ = \d+ ?\|? ?)+)", text)
    return tuple(re.findall(r"(\w+) = 1", line[1])) if line else ()


class _Say(Protocol):
    def __call__(self, value: object, *names: str, needed: bool = True) -> None: ...


def flags(launch: Launch, known: frozenset[str], devices: str | None = None) -> list[str]:
    """A launch as flags that this build has; ``devices``: the only ones that may take layers.

    Raises ``UsageError`` for what it can't be told.
    """
    options = options_as(LlamaOptions, launch.options)
    argv = ["-m", launch.model, "-np", "1"]

    def say(value: object, *names: str, needed: bool = True) -> None:
        if value is None or value is False:
            return
        name = next((name for name in names if name in known), None)
        if name is None:
            if needed:
                raise UsageError(f"this build of llama-server has none of {', '.join(names)}")
            return
        argv.extend([name] if value is True else [name, str(value)])

    k = launch.drafting.n_max if launch.drafting else 0
    on_cpu = launch.backend == "cpu" and launch.rpc is None
    layers = 0 if on_cpu else options.gpu_layers
    passed = replace(
        options,
        # A verification must fit into one logical batch, or the server aborts; the physical one stays.
        batch=max(options.batch, k + 1) if options.batch else None,
        ubatch=options.ubatch if options.ubatch is not None else options.batch,
        gpu_layers=ALL_LAYERS if layers == "all" else layers,
    )
    say(options.threads, "-tb", "--threads-batch")
    say(launch.rpc, "--rpc")
    argv += arguments(passed, known, "this build of llama-server")
    # With 0 layers a GPU build still sends long prompts there; without a device it can't.
    say("none" if on_cpu else devices, "--device", "-dev", needed=False)
    # One request at a time, nothing kept between them that a repeat could profit from, no guessing
    # of sizes: each of these changed figures silently when it became a default.
    say("off", "-fit", "--fit", needed=False)
    say(0, "--cache-ram", "-cram", needed=False)
    say(0, "-ctxcp", "--ctx-checkpoints", needed=False)
    say(True, "--no-ui", "--no-webui", needed=False)
    say(True, "--metrics", needed=False)
    say(4, "-lv", "--log-verbosity", "--verbosity", needed=False)
    if launch.draft is not None or launch.drafting is not None:
        _draft(launch, options, say)
    return argv


def _draft(launch: Launch, options: LlamaOptions, say: _Say) -> None:
    drafting = launch.drafting or Drafting(0)
    k = drafting.n_max or None
    if launch.draft is None:
        say(drafting.method, "--spec-type")
        say(NGRAM, f"--spec-{drafting.method}-size-n")
        say(k, f"--spec-{drafting.method}-size-m")
        return
    say(launch.draft, "-md", "--model-draft", "--spec-draft-model")
    # Since b9464 a draft model alone doesn't speculate.
    say("draft-simple", "--spec-type", needed=False)
    say(k, "--spec-draft-n-max", "--draft-max", "--draft")
    say(0, "--spec-draft-n-min", "--draft-min", needed=False)
    say(drafting.p_min or "0.0", "--spec-draft-p-min", "--draft-p-min", needed=bool(drafting.p_min))
    layers = options.draft_gpu_layers
    say(ALL_LAYERS if layers == "all" else layers, "-ngld", "--n-gpu-layers-draft", "--spec-draft-ngl")


def rpc_facts(log: Sequence[str]) -> dict[str, object]:
    """What a server says of itself at its start: ``protocol``, and ``devices`` as it names them.

    ``Starting RPC server v4.0.3``, then after ``Devices:`` a line each (rpc-server.cpp, ggml-rpc.cpp).
    """
    text = "\n".join(log)
    facts: dict[str, object] = {}
    if version := re.search(r"Starting RPC server v(\d+(?:\.\d+)*)", text):
        facts["protocol"] = version[1]
    _, found, rest = text.partition("Devices:\n")
    if found:
        facts["devices"] = re.findall(r"^[ \t]+(\S.* MiB.*)$", rest, re.M)
    return facts
