"""A launch option that somebody else's engine has: nothing but its declaration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import ollama

from edgebench.core import option


def turbo_used(log: Sequence[str]) -> int | None:
    return next((int(level[1]) for line in log if (level := re.search(r"msg=turbo level=(\d)", line))), None)


@dataclass(frozen=True)
class Options(ollama.Options):
    turbo: int | None = option(
        "How hard to try", minimum=0, maximum=3, default="0", env="OLLAMA_TURBO", read_back=turbo_used,
        memory="grows", memory_b=lambda level, model: int(level) * 2**20,
    )  # fmt: skip


class Turbo(ollama.Ollama):
    Options = Options
    backends = (*ollama.Ollama.backends, "hexagon")
