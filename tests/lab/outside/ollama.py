"""Ollama, by its documented API (https://github.com/ollama/ollama/blob/main/docs/api.md): an engine in one file."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgebench import core
from edgebench.core import EngineFailed, EngineMissing, Json, Reply, option

MODEL = "edgebench"
SERVE = """"$0" serve & trap "kill $!" INT TERM ALRM; file=$(mktemp); printf 'FROM %s\\n' "$1" >"$file"
until "$0" create edgebench -f "$file"; do kill -0 $! || exit 1; sleep 0.2; done; rm "$file"; wait"""


@dataclass(frozen=True)
class OllamaConfig:
    path: str = "ollama"
    """The ``ollama`` program on the device."""


@dataclass(frozen=True)
class Options:
    ctx: int | None = option("Context, tokens", minimum=1, key="num_ctx", tunes=False, memory="grows")
    threads: int | None = option("Threads of the engine", minimum=1, key="num_thread")


class Ollama(core.Engine):
    Config, Options = OllamaConfig, Options
    formats, backends, warm_up = ("gguf",), ("cpu", "cuda", "rocm", "metal"), core.TEXT_WARM_UP

    def __init__(self, device: core.DeviceSession, config: OllamaConfig) -> None:
        self._device, self._path, self._launch = device, config.path, core.Launch("")

    def prepare(self) -> core.EngineFacts:
        said = self._device.run(self._device.system.quote([self._path, "--version"]), timeout=30)
        if said.status != 0:
            raise EngineMissing(f"{self._path} cannot run: {said.stderr[-300:]}", "See https://ollama.com/download.")
        return core.EngineFacts(name="ollama", build=said.stdout.split()[-1], path=self._path)

    def command(self, launch: core.Launch, port: int) -> core.Command:
        self._launch = launch
        env = {"OLLAMA_HOST": f"127.0.0.1:{port}", **core.environment(core.options_as(self.Options, launch.options))}
        return core.Command(["sh", "-c", SERVE, self._path, launch.model], env=env)

    def ready(self, client: core.Client) -> bool:
        tags = client.get("/api/tags")[1]
        there = isinstance(tags, dict) and any(model["name"].startswith(MODEL) for model in tags["models"])
        return there and client.post("/api/generate", self._body(keep_alive=-1))[0] == 200  # no prompt: it loads

    def complete(self, client: core.Client, request: core.Request) -> Reply:
        if request.messages is None:
            raise EngineFailed("Ollama takes text, and this scenario sends token ids", "Use --scenario chat.")
        limits = {"num_predict": request.max_tokens, "temperature": request.temperature, "seed": request.seed}
        body = self._body(limits, messages=[dict(message) for message in request.messages], stream=True)
        sent_at = time.monotonic()
        return reply(list(core.json_lines(client.lines("/api/chat", body))), sent_at)

    def count_tokens(self, client: core.Client, text: str) -> int:
        body = self._body({"num_predict": 1}, prompt=text, raw=True, stream=False)
        return int(client.post("/api/generate", body)[1]["prompt_eval_count"])

    def info(self, log: Iterable[str]) -> core.EngineFacts:
        words = (word for line in log if "inference compute" in line for word in line.split())
        return core.EngineFacts(backend=next((w[8:] for w in words if w.startswith("library=")), None))

    def _body(self, limits: Mapping[str, Json] | None = None, **fields: Json) -> Json:
        options = core.keyed(core.options_as(self.Options, self._launch.options))
        return {"model": MODEL, **fields, "options": {**options, **(limits or {})}}


def reply(chunks: list[tuple[float, Json]], sent_at: float) -> Reply:
    end = chunks[-1][1]
    if not end.get("done"):
        raise EngineFailed(f"Ollama's answer ended with {str(end)[:200]}")
    pieces = [(at, text) for at, chunk in chunks if (text := chunk.get("message", {}).get("content"))]
    at, count, read = [at for at, _ in pieces], end["eval_count"], end.get("prompt_eval_count", 0)
    counts = {"prompt_tokens": read, "prefill_tokens": read, "completion_tokens": count, "finish": end["done_reason"]}
    rates = {"prefill_s": end.get("prompt_eval_duration", 0) / 1e9, "decode_s": end["eval_duration"] / 1e9}
    seen = {"token_times": tuple(one - at[0] for one in at), "sent_at": sent_at, "total_s": chunks[-1][0] - sent_at}
    return Reply("".join(text for _, text in pieces), **counts, **rates, **seen, ttft_s=at[0] - sent_at if at else None)
