"""``mlc_llm serve`` in the profile's Python: Linux, Windows, macOS."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgebench.core import (
    Client,
    Command,
    DeviceSession,
    Engine,
    EngineFacts,
    Fields,
    Launch,
    Line,
    Option,
    Reply,
    Request,
    environment,
    keyed,
    options_as,
)
from edgebench.engines import mlc_install, mlc_server
from edgebench.engines.mlc_install import BACKENDS, FORMATS, KEY_VARIABLE, MlcConfig
from edgebench.engines.mlc_options import MlcOptions
from edgebench.errors import EngineFailed, EngineMissing, TimedOut
from edgebench.modelfiles.mlc import CONFIG, WEIGHT_INDEXES

SAMPLING_BACKENDS = ("cuda", "vulkan", "metal")
"""Backends with a sampler of their own (cpp/serve/sampler/sampler.h; Metal since v0.20). The others use the
CPU's, which accepts only one token per request since April 2024: a draft would crash the engine."""


class MlcPython(Engine):
    """``mlc_llm serve`` of v0.17 or later: its flags are read from its own source on the device."""

    Config = MlcConfig
    formats = FORMATS
    backends = BACKENDS
    Options = MlcOptions

    def __init__(self, device: DeviceSession, config: MlcConfig) -> None:
        self._device = device
        self._config = config
        self._flags: frozenset[str] = frozenset()
        self._speculative = False
        self._drafts = (0, 0)
        self._token_counts: dict[str, int] = {}
        self._checked_folders: set[str] = set()
        self.cache_name: str | None = None
        """File name of the weight index that this version reads."""

    def prepare(self) -> EngineFacts:
        """Reads the facts from MLC-LLM's installed source, without importing it. Raises ``EngineMissing``."""
        info = self._probe()
        self._flags, version = frozenset(info.names("flags")), info.text("version") or ""
        self.cache_name = info.text("cache_name")
        if "--enable-debug" not in self._flags:
            raise EngineMissing(
                f"MLC-LLM {version} on {self._device.device.name} is too old: serve has no --enable-debug",
                mlc_install.install_hint(self._device),
            )
        packages = info.texts("packages")
        # The source package is named mlc_llm, the wheels mlc-llm-nightly-…; only releases set libinfo's version.
        installed = (v for name, v in packages.items() if name.lower().replace("_", "-").startswith("mlc-llm"))
        extra = {
            "packages": packages,
            "python": info.text("python"),
            "cache_name": self.cache_name,
            # Before March 2026 serve had no API key: only the loopback interface protects it.
            "key": "--api-key" in self._flags,
        }
        return EngineFacts(
            name="mlc-llm",
            build=next(installed, version),
            path=info.text("path"),
            extra={name: value for name, value in extra.items() if value is not None},
        )

    def command(self, launch: Launch, port: int) -> Command:
        self._speculative, self._drafts = launch.draft is not None, (0, 0)
        for folder in filter(None, (launch.model, launch.draft)):
            self._check_weights(folder)
        keyed = "--api-key" in self._flags
        argv = [self._python(), "-c", serve_code(keyed), *self.flags(launch)]
        argv += ["--host", "127.0.0.1", "--port", str(port)]
        options = options_as(MlcOptions, launch.options)
        env = {"PYTHONUNBUFFERED": "1", **self._config.env, **environment(options)}
        return Command(argv, env=env, secrets=(KEY_VARIABLE,))

    def flags(self, launch: Launch) -> list[str]:
        """The arguments of ``serve`` for a launch. Raises ``EngineFailed`` for unsupported options, and for
        those that would crash the process later."""
        lib = self._config.model_lib
        argv = [launch.model, "--device", launch.backend, "--mode", "interactive", "--enable-debug"]
        argv += ["--prefix-cache-mode", "disable"]
        argv += ["--model-lib", lib] if lib else []
        options = options_as(MlcOptions, launch.options)
        chunk = options.batch or options.ubatch
        overrides: dict[str, Option] = keyed(replace(options, batch=chunk))
        if launch.draft is not None:
            k = self._draft_length(launch, launch.draft, chunk)
            argv += ["--speculative-mode", "small_draft", "--additional-models", launch.draft]
            overrides |= {"max_num_sequence": k + 1 if lib else max_sequences(k), "spec_draft_length": k}
        text = ";".join(f"{name}={value}" for name, value in overrides.items())
        argv += ["--overrides", text] if text else []
        unknown = [flag for flag in argv[1:] if flag.startswith("--") and flag not in self._flags]
        if unknown:
            raise EngineFailed(f"this version of MLC-LLM does not know {', '.join(unknown)}", "Install a newer one.")
        return argv

    def _draft_length(self, launch: Launch, draft: str, chunk: int | None) -> int:
        """K. Raises ``EngineFailed`` if the engine would crash on the first draft, or would not draft at all."""
        k = launch.drafting.n_max if launch.drafting else 0
        if not k:
            raise EngineFailed("MLC-LLM requires a fixed draft length", "Pass --k.")
        is_old = self.cache_name == "ndarray-cache.json"
        if launch.backend not in SAMPLING_BACKENDS or (launch.backend == "metal" and is_old):
            raise EngineFailed(
                f"MLC-LLM cannot verify drafts on {launch.backend}: it would sample on the CPU, and its CPU sampler "
                "crashes on the first draft",
                "Use --backend cuda or vulkan, or metal with v0.20 or later.",
            )
        if chunk is not None and chunk < k + 1:
            raise EngineFailed(f"a prefill chunk of {chunk} is too small for K = {k}", f"Give --batch {k + 1}.")
        if "," in draft:
            raise EngineFailed(f"MLC-LLM does not support commas in the path of a draft model: {draft}")
        return k

    def ready(self, client: Client) -> bool:
        return mlc_server.ready(client)

    def ready_line(self, text: str) -> bool:
        return mlc_server.ready_line(text)

    def complete(self, client: Client, request: Request) -> Reply:
        reply = mlc_server.complete(client, request, models=2 if self._speculative else 1)
        if not self._speculative:
            return reply
        before, self._drafts = self._drafts, mlc_server.drafts(client)
        proposed, accepted = (total - earlier for total, earlier in zip(self._drafts, before, strict=True))
        return replace(reply, draft_tokens=proposed, draft_accepted=accepted)

    def count_tokens(self, client: Client, text: str) -> int:
        if text not in self._token_counts:
            self._token_counts[text] = mlc_server.count_tokens(client, text)
        return self._token_counts[text]

    def info(self, log: Iterable[str]) -> EngineFacts:
        return mlc_server.info(log)

    def compiling(self, log: Sequence[Line]) -> tuple[float, bool] | None:
        return mlc_server.compiling(log)

    def verdict(self, log: Sequence[str]) -> tuple[str, str] | None:
        return mlc_server.verdict(log)

    def last_words(self, log: Sequence[str]) -> tuple[str, str] | None:
        message = mlc_server.last_words([mlc_server.plain(line) for line in log])
        return (message, mlc_server.remedy(message)) if message else None

    def _check_weights(self, folder: str) -> None:
        """Raises ``EngineFailed`` if this version cannot read the weights in a folder on the device."""
        if folder in self._checked_folders:
            return
        argv = [self._python(), "-c", LIST_SCRIPT, folder]
        output = self._device.run(self._device.system.quote(argv), timeout=60)
        try:
            names = json.loads(output.stdout)
        except ValueError as error:
            error_text = output.stderr.strip()[-300:]
            raise EngineFailed(f"{folder} cannot be read on {self._device.device.name}: {error_text}") from error
        if CONFIG not in names:
            raise EngineFailed(
                f"{folder} is not a model for MLC-LLM: it has no {CONFIG}",
                "Name the folder that mlc_llm convert_weight and gen_config wrote.",
            )
        if self.cache_name is not None and self.cache_name not in names:
            other = next((name for name in WEIGHT_INDEXES if name in names), "none")
            raise EngineFailed(
                f"the weight index in {folder} is {other}, and this version of MLC-LLM reads {self.cache_name} only",
                "Use weights made for this version, or the version they were made for (v0.20 changed the name).",
            )
        self._checked_folders.add(folder)

    def _python(self) -> str:
        return self._config.python or ("python" if self._device.device.system == "windows" else "python3")

    def _probe(self) -> Fields:
        """The output of ``PROBE_SCRIPT`` in the device's Python. Raises ``EngineMissing``."""
        name, hint = self._device.device.name, mlc_install.install_hint(self._device)
        try:
            output = self._device.run(self._device.system.quote([self._python(), "-c", PROBE_SCRIPT]), timeout=60)
        except TimedOut as error:
            raise EngineMissing(f"timed out: no output from {self._python()} on {name} for 60 s", hint) from error
        if output.status != 0:
            error_text = (output.stderr.strip() or output.stdout.strip())[-300:]
            raise EngineMissing(
                f"{self._python()} cannot run on {name} (exit status {output.status}): {error_text}", hint
            )
        try:
            info = json.loads(output.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError) as error:
            raise EngineMissing(
                f"{self._python()} on {name} is not a Python interpreter: {output.stdout[:200]!r}", hint
            ) from error
        if not isinstance(info, dict) or not info.get("path"):
            raise EngineMissing(f"the Python {self._python()} on {name} has no mlc_llm", hint)
        return Fields(info)


def max_sequences(k: int) -> int:
    """``max_num_sequence`` for K draft tokens and the verifier's own: interactive mode has one sequence, but a
    step needs K + 1. The compiled library depends on it (jit.py hashes ``max_batch_size``): with the next
    power of two, a sweep of 1..16 compiles each model five times, not sixteen."""
    return 1 << k.bit_length()


LIST_SCRIPT = "import json,os,sys;print(json.dumps(os.listdir(sys.argv[1])))"
"""Program for the device's Python: prints the names of the files in a folder."""

PROBE_SCRIPT = ";".join(
    (
        "import importlib.metadata as m,importlib.util as u,json,os,platform,re",
        "s=u.find_spec('mlc_llm')",
        "d=os.path.dirname(s.origin) if s and s.origin else ''",
        "j=lambda n:os.path.join(d,*n.split('/'))",
        "r=lambda n:open(j(n),encoding='utf-8').read() if d and os.path.exists(j(n)) else ''",
        "c=re.findall('tensor-cache.json|ndarray-cache.json',r('support/download_cache.py'))",
        "v=re.findall('__version__ = .([0-9A-Za-z.+-]+)',r('libinfo.py'))",
        "f=sorted(set(re.findall('--[a-z][a-z-]+',r('cli/serve.py'))))",
        "n=lambda x:str(x.metadata['Name'])",
        "p={n(x):x.version for x in m.distributions() if re.match('mlc|tvm|apache-tvm',n(x).lower())}",
        "k={'path':d,'python':platform.python_version(),'flags':f,'packages':p}",
        "k.update(version=v[0] if v else '',cache_name=c[0] if c else None)",
        "print(json.dumps(k))",
    )
)
"""Program for the device's Python: prints mlc_llm's path, its version and the flags of serve. One line with
single quotes only, so that every shell can quote it."""


def serve_code(has_key: bool) -> str:
    """Program for the device's Python: runs ``python -m mlc_llm serve`` with the key from the environment
    instead of argv, which every user of the machine can read, and prints the resident memory of Python,
    TVM and the compiler before the model is loaded."""
    key = "+['--api-key',k]" if has_key else ""
    statm = "int(open('/proc/self/statm').read().split()[1])*os.sysconf('SC_PAGE_SIZE')"
    return ";".join(
        (
            "import os,runpy,sys",
            f"k=os.environ.pop('{KEY_VARIABLE}')",
            "import mlc_llm.cli.serve",
            f"os.path.exists('/proc/self/statm') and print('edgebench:',{statm},"
            "'bytes resident before the model loads',flush=True)",
            f"sys.argv=['mlc_llm','serve']+sys.argv[1:]{key}",
            "runpy.run_module('mlc_llm',run_name='__main__',alter_sys=True)",
        )
    )
