"""llama-cpp-python in the device's own Python, behind a server with llama-server's API."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import ClassVar

from edgebench.core import (
    Capability,
    Client,
    Command,
    CostQuery,
    DivergenceQuery,
    EngineFacts,
    Json,
    Launch,
    Query,
    Reply,
    Request,
)
from edgebench.device import provision
from edgebench.device.session import Session
from edgebench.engines import llama_server, llamacpp
from edgebench.errors import EngineFailed, Unreadable

MAIN_PY = b"from llama_cpp_python.__main__ import main\nraise SystemExit(main())\n"


@dataclass(frozen=True)
class LlamaCppPythonConfig:
    """The engine's section of a device profile."""

    python: str | None = None
    """A Python 3.9 or later that can ``import llama_cpp``; default: this one locally, else ``python3``."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the engine's process only."""


class LlamaCppPython(llama_server.Dialect):
    """The server of ``edgebench/servers/llama_cpp_python``, sent to the device as one file."""

    Config = LlamaCppPythonConfig
    k_per_request = True
    drafts_without_model = ("prompt-lookup",)
    ends_drafts = True
    capabilities: ClassVar[tuple[Capability, ...]] = (
        "token-ids",
        "speculation-costs",
        "text-divergence",
        "token-likelihoods",
        "no-kv-cache",
        "decoding-strategies",
    )

    def __init__(self, device: Session, config: LlamaCppPythonConfig) -> None:
        self._device = device
        self._config = config
        self._program: list[str] = []

    def prepare(self) -> EngineFacts:
        python = self._config.python or (sys.executable if self._device.is_local else "python3")
        self._program = [python, self._deploy()]
        output = llama_server.program_output(
            self._device,
            [*self._program, "--version"],
            self._config.env,
            timeout=120,
            hint=f"On that device: `{python} -m pip install llama-cpp-python` (it compiles for about ten minutes), "
            "or name another Python under engines: llama-cpp-python: python.",
        )
        build = next(
            (line.partition(":")[2].strip() for line in output.splitlines() if line.startswith("build:")), None
        )
        return EngineFacts(
            name="llama-cpp-python",
            build=build or None,
            path=python,
            instruction_sets=llamacpp.instruction_sets(output),
        )

    def command(self, launch: Launch, port: int) -> Command:
        argv = [*self._program, *llamacpp.flags(launch, server_flags()), "--host", "127.0.0.1", "--port", str(port)]
        return Command(argv, env=self._config.env, secrets=(llama_server.KEY_VARIABLE,))

    def routine(self) -> Command:
        return Command([self._program[0], "-"], env=self._config.env)

    def ready_line(self, line: str) -> bool:
        return line.startswith("model loaded: ")

    def complete(self, client: Client, request: Request) -> Reply:
        return llama_server.complete(client, request)

    def answer(self, client: Client, query: Query) -> Reply:
        sent_at = time.monotonic()
        reply = self._answer(client, query)
        return replace(reply, token_clock="engine", sent_at=sent_at, total_s=time.monotonic() - sent_at)  # noqa: S106 - a clock

    def _answer(self, client: Client, query: Query) -> Reply:
        messages = [dict(message) for message in query.messages]

        def post(name: str, fields: Mapping[str, object]) -> dict[str, Json]:
            status, document = client.post(f"/edgebench/{name}", {"messages": messages, **fields})
            if status != 200 or not isinstance(document, dict):
                raise EngineFailed(f"/edgebench/{name} answered {status}: {str(document)[:300]}")
            return document

        if isinstance(query, CostQuery):
            fields = {"sizes": list(query.sizes), "repeats": query.repeats, "tokens": list(query.generated)}
            return Reply("", costs=llama_server.costs_of(post("costs", fields)))
        if isinstance(query, DivergenceQuery):
            texts = {"one": list(query.reference), "other": list(query.other)}
            return Reply("", divergence=llama_server.divergence_of(post("parting", texts)))
        body = {"tokens": list(query.tokens), "last": len(query.tokens) + 1, "top": 0}
        return Reply("", log_likelihoods=_log_likelihoods(post("logits", body)))

    def _deploy(self) -> str:
        """Copy the server to the device unless it is there already; its path on the device."""
        from platformdirs import user_cache_path

        data = archive()
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"llama_cpp_python-{sha256[:16]}.pyz"
        path = user_cache_path("edgebench") / "servers" / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(data)
            part.replace(path)
        if self._device.is_local:
            return str(path)
        return provision.deploy_file(self._device, path, sha256, len(data), name, "servers")


def _log_likelihoods(document: Mapping[str, Json]) -> tuple[float, ...]:
    """Log-likelihoods of the tokens; each row has that of the next token. Raises ``Unreadable`` for another format."""
    try:
        rows = document["logits"]
        return tuple(float(row["next_log_likelihood"]) for row in rows if "next_log_likelihood" in row)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"/edgebench/logits has an unknown format: {error}") from error


def server_flags() -> frozenset[str]:
    """The flags of edgebench's own server, known without starting it."""
    from edgebench.servers.llama_cpp_python.__main__ import flags

    return llamacpp.help_flags(flags().format_help())


def archive() -> bytes:
    """The server as one file that Python runs: a reproducible zip with ``__main__.py``."""
    package = files("edgebench") / "servers" / "llama_cpp_python"
    parts = {
        f"llama_cpp_python/{part.name}": part.read_bytes() for part in package.iterdir() if part.name[-3:] == ".py"
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in sorted({**parts, "__main__.py": MAIN_PY}.items()):
            file.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()
