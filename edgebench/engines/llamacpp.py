"""llama.cpp's own server: ``llama-server`` at the profile's path, or the bundled one on this machine."""

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

NGRAM_SIZE = 3
"""Length of the n-grams for drafts that are looked up in the text. llama.cpp's default of 12 hardly ever
matches in a short text."""


@dataclass(frozen=True)
class LlamaCppConfig:
    """The engine's section of a device profile."""

    path: str | None = None
    """``llama-server`` on the device; default on this machine: the bundled server."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the engine's process only, such as ``LD_LIBRARY_PATH``."""
    rpc: str | None = None
    """``ggml-rpc-server`` on the device, for ``--rpc``; default: next to ``llama-server``."""

    def __post_init__(self) -> None:
        if self.path == "":
            raise ValueError("path must not be empty; omit it to search for llama-server")
        for name in ("path", "rpc"):
            if (getattr(self, name) or "").startswith("~"):
                raise ValueError(f"{name}: ~ is not expanded on a device; write the full path")


ALL_LAYERS = 999
"""More layers than any model has."""

RPC_SERVERS = ("ggml-rpc-server", "rpc-server")
"""Names of the program; the second one until b9823."""


class LlamaCpp(llama_server.Dialect):
    """One ``llama-server`` binary of any build from 2024 on: flags are chosen from its ``--help``."""

    Config = LlamaCppConfig
    k_per_request = False
    drafts_without_model = ("ngram-simple", "ngram-map-k", "ngram-map-k4v")
    ends_drafts = True
    capabilities = llama_queries.CAPABILITIES

    def __init__(self, device: DeviceSession, config: LlamaCppConfig) -> None:
        self._device = device
        self._config = config
        self._flags: frozenset[str] = frozenset()
        self._draft_rereads = False
        self.bundled = config.path is None and device.is_local

    def prepare(self) -> EngineFacts:
        if self._config.path is None and not self.bundled:
            self._config = self._find()
        help_text = self._run("--help")
        # In builds with this drafting method, the draft also evaluates every batch of the target.
        self._flags, self._draft_rereads = help_flags(help_text), "draft-simple" in help_text
        if "--model" not in self._flags:
            raise EngineMissing(
                f"{self._program()[0]} is not llama-server (unexpected --help output)",
                "Set the engine's path to llama.cpp's llama-server.",
            )
        path = self._program()[-1]
        return replace(
            version(self._run("--version")),
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
        server_path = self._config.path
        if server_path is None:
            from importlib.util import find_spec

            spec = find_spec("xllamacpp")
            server_path = str(spec.origin) if spec else ""
        python = sys.executable if self._device.is_local else "python3"
        return Command([python, "-", server_path], env=self._config.env)

    def ready_line(self, text: str) -> bool:
        return llama_server.ready_line(text)

    def complete(self, client: Client, request: Request) -> Reply:
        return llama_server.complete(client, request)

    def answer(self, client: Client, query: Query) -> Reply:
        return llama_queries.answer(client, query, self._draft_rereads)

    def _find(self) -> LlamaCppConfig:
        """The llama-server installed by ``edgebench devices setup``, else the one on the device's PATH."""
        system, files = self._device.system, self._device.system.files
        folder = files.join(self._device.workspace, "engines", "llama.cpp")
        deployed = files.state(path := files.join(folder, f"llama-server{system.suffix}"))
        if deployed.parse(self._device.run(deployed.command).stdout):
            # Windows looks for a program's libraries beside it.
            libraries = {} if system.suffix else {"LD_LIBRARY_PATH": folder}
            return replace(self._config, path=path, env={**libraries, **self._config.env})
        search = system.find("llama-server")
        if server_path := search.parse(self._device.run(search.command).stdout):
            return replace(self._config, path=server_path)
        raise NoEngine(
            f"no llama.cpp on {self._device.device.name}: the profile names no engines: llama.cpp: path",
            f"Install it with `edgebench devices setup {self._device.device.name}`, or name its path.",
        )

    def find_rpc(self) -> Mapping[str, object]:
        """The RPC server's ``program`` and its ``sha256``. Raises ``EngineMissing``."""
        if self._config.rpc is None:
            self._config = replace(self._config, rpc=self._find_program(RPC_SERVERS))
        assert self._config.rpc is not None
        sha256 = provenance.program_sha256(self._device, self._config.rpc)
        return {"program": self._config.rpc, **({"sha256": sha256} if sha256 else {})}

    def rpc_command(self, port: int) -> Command:
        """Command of the RPC server (after ``find_rpc``): on the device's loopback, as it has no authentication."""
        assert self._config.rpc is not None
        argv = [self._config.rpc, "-H", "127.0.0.1", "-p", str(port)]
        threads = self._device.device.defaults.get("threads")
        return Command([*argv, *(["-t", str(threads)] if threads else [])], env=self._config.env)

    def rpc_facts(self, log: Sequence[str]) -> Mapping[str, object]:
        return rpc_facts(log)

    def _find_program(self, names: Sequence[str]) -> str:
        """The first of these programs in the folder of ``llama-server``. Raises ``EngineMissing``."""
        name = self._device.device.name
        if self.bundled:
            raise EngineMissing(
                f"the bundled server of {name} does not support --rpc",
                "Name a llama.cpp of its own in the profile: engines: llama.cpp: path.",
            )
        if self._config.path is None:
            self._config = self._find()
        assert self._config.path is not None
        files = self._device.system.files
        folder = re.sub(r"[^\\/]*$", "", self._config.path)
        for program in names:
            path = folder + program + self._device.system.suffix
            state = files.state(path)
            if state.parse(self._device.run(state.command).stdout):
                return path
        raise EngineMissing(
            f"no ggml-rpc-server in {folder or 'the folder of llama-server'} on {name}",
            "It comes with builds made with -DGGML_RPC=ON. Name it in the profile: engines: llama.cpp: rpc.",
        )

    def _rpc_devices(self, addresses: str) -> str | None:
        """This build's names of the devices behind RPC servers, to use them without a local GPU.

        Raises ``EngineFailed`` with the program's output if a server is unreachable or incompatible.
        """
        if "--list-devices" not in self._flags or "--rpc" not in self._flags:
            return None
        try:
            output = self._run("--rpc", addresses, "--list-devices")
        except EngineMissing as error:
            raise EngineFailed(
                f"llama-server cannot use the RPC servers at {addresses}: {error}",
                "Both sides must be of the same build of llama.cpp, or of builds with the same RPC protocol.",
            ) from error
        names = re.findall(r"^\s*(RPC[^:\s]*(?:\[[^\]]*\])?): ", output, re.M)
        if not names:
            raise EngineFailed(
                f"llama-server found no device behind the RPC servers at {addresses}: {output.strip()[-400:]}"
            )
        return ",".join(names)

    def _program(self) -> list[str]:
        if self._config.path is not None:
            return [self._config.path]
        return [sys.executable, str(Path(__file__).parent.parent / "servers" / "bundled.py")]

    def _run(self, *flags: str) -> str:
        hint = "Check that the file exists, is executable and was built for this device."
        return llama_server.program_output(
            self._device, [*self._program(), *flags], self._config.env, timeout=60, hint=hint
        )


_FLAG = r"-{1,2}[A-Za-z][\w-]*"
_VALUE = r"(?:[ =][^\s,-][^,]*)?"
_HEAD = re.compile(rf"\s*({_FLAG}{_VALUE}(?:,\s*{_FLAG}{_VALUE})*)")


def help_flags(text: str) -> frozenset[str]:
    """The flags at the start of the lines of a ``--help`` text."""
    matches = (_HEAD.match(line) for line in text.splitlines())
    return frozenset(flag for match in matches if match for flag in re.findall(rf"(?<![\w-]){_FLAG}", match[1]))


def version(text: str) -> EngineFacts:
    """``build`` (such as ``b11549`` or ``b10470-34af94cd9``) and ``instruction_sets`` of ``--version``.

    The number's format changed at b10394; builds from a source archive have the number 1.
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


class _AddFlag(Protocol):
    def __call__(self, value: object, *names: str, required: bool = True) -> None: ...


def flags(launch: Launch, supported: frozenset[str], devices: str | None = None) -> list[str]:
    """The flags of a launch, out of the ``supported`` ones; ``devices``: the only ones that may hold layers.

    Raises ``UsageError`` for an option that the build does not support.
    """
    options = options_as(LlamaOptions, launch.options)
    argv = ["-m", launch.model, "-np", "1"]

    def add(value: object, *names: str, required: bool = True) -> None:
        if value is None or value is False:
            return
        name = next((name for name in names if name in supported), None)
        if name is None:
            if required:
                raise UsageError(f"this build of llama-server has none of {', '.join(names)}")
            return
        argv.extend([name] if value is True else [name, str(value)])

    k = launch.drafting.n_max if launch.drafting else 0
    on_cpu = launch.backend == "cpu" and launch.rpc is None
    layers = 0 if on_cpu else options.gpu_layers
    launch_options = replace(
        options,
        # A verification must fit into one logical batch, or the server aborts; the physical batch is unchanged.
        batch=max(options.batch, k + 1) if options.batch else None,
        ubatch=options.ubatch if options.ubatch is not None else options.batch,
        gpu_layers=ALL_LAYERS if layers == "all" else layers,
    )
    add(options.threads, "-tb", "--threads-batch")
    add(launch.rpc, "--rpc")
    argv += arguments(launch_options, supported, "this build of llama-server")
    # With 0 layers a GPU build still evaluates long prompts on the GPU, unless it has no device.
    add("none" if on_cpu else devices, "--device", "-dev", required=False)
    # No caches across requests and no automatic sizes: each of these changed results silently when it
    # became a default.
    add("off", "-fit", "--fit", required=False)
    add(0, "--cache-ram", "-cram", required=False)
    add(0, "-ctxcp", "--ctx-checkpoints", required=False)
    add(True, "--no-ui", "--no-webui", required=False)
    add(True, "--metrics", required=False)
    add(4, "-lv", "--log-verbosity", "--verbosity", required=False)
    if launch.draft is not None or launch.drafting is not None:
        _draft(launch, options, add)
    return argv


def _draft(launch: Launch, options: LlamaOptions, add: _AddFlag) -> None:
    drafting = launch.drafting or Drafting(0)
    k = drafting.n_max or None
    if launch.draft is None:
        add(drafting.method, "--spec-type")
        add(NGRAM_SIZE, f"--spec-{drafting.method}-size-n")
        add(k, f"--spec-{drafting.method}-size-m")
        return
    add(launch.draft, "-md", "--model-draft", "--spec-draft-model")
    # Since b9464 a draft model alone does not enable speculation.
    add("draft-simple", "--spec-type", required=False)
    add(k, "--spec-draft-n-max", "--draft-max", "--draft")
    add(0, "--spec-draft-n-min", "--draft-min", required=False)
    add(drafting.p_min or "0.0", "--spec-draft-p-min", "--draft-p-min", required=bool(drafting.p_min))
    layers = options.draft_gpu_layers
    add(ALL_LAYERS if layers == "all" else layers, "-ngld", "--n-gpu-layers-draft", "--spec-draft-ngl")


def rpc_facts(log: Sequence[str]) -> dict[str, object]:
    """``protocol`` and ``devices`` from an RPC server's log.

    ``Starting RPC server v4.0.3``, then after ``Devices:`` one line each (rpc-server.cpp, ggml-rpc.cpp).
    """
    text = "\n".join(log)
    facts: dict[str, object] = {}
    if version := re.search(r"Starting RPC server v(\d+(?:\.\d+)*)", text):
        facts["protocol"] = version[1]
    _, separator, rest = text.partition("Devices:\n")
    if separator:
        facts["devices"] = re.findall(r"^[ \t]+(\S.* MiB.*)$", rest, re.M)
    return facts
