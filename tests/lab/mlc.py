"""MLC-LLM's side of the lab: a Python that has the stand-in installed, a folder of weights, a profile."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent


def weights(folder: Path, *, shards: int = 2, cache: str = "tensor-cache.json", quantization: str = "q4f16_1") -> Path:
    """A folder in MLC-LLM's form: a config, shards and the list of them."""
    folder.mkdir(parents=True)
    inner = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 300,
        "context_window_size": 2048,
        "prefill_chunk_size": 512,
    }
    config = {
        "version": "0.1.0",
        "model_type": "llama",
        "quantization": quantization,
        "model_config": inner,
        "vocab_size": 300,
        "context_window_size": 2048,
        "sliding_window_size": -1,
        "prefill_chunk_size": 512,
        "tokenizer_files": ["tokenizer.json"],
    }
    (folder / "mlc-chat-config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    records = []
    for index in range(shards):
        data = bytes([index]) * 1000
        (folder / f"params_shard_{index}.bin").write_bytes(data)
        digest = hashlib.md5(data).hexdigest()
        records.append(
            {
                "dataPath": f"params_shard_{index}.bin",
                "format": "raw-shard",
                "nbytes": 1000,
                "records": [],
                "md5sum": digest,
            }
        )
    about = {"ParamSize": 9, "ParamBytes": 1000 * shards, "BitsPerParam": 4.5}
    (folder / cache).write_text(json.dumps({"metadata": about, "records": records}))
    return folder


def python(folder: Path) -> Path:
    """A Python whose ``mlc_llm`` is the stand-in."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{HERE}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return program


class Laptop:
    """A device profile of this machine with the stand-in, and its results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = weights(folder / "models" / "tiny-q4f16_1-MLC")

    def profile(self, fault: str = "", **settings: Any) -> str:
        """The path of a profile whose engine has one fault."""
        env = {"MLC_LLM_HOME": str(self.folder / "home"), "MLC_DOUBLE": fault}
        engine: Mapping[str, Any] = {"python": str(python(self.folder / "bin dir")), "env": env, **settings}
        path = self.folder / "laptop.yaml"
        about = {"name": "laptop", "system": "linux", "transport": {"kind": "local"}, "engines": {"mlc-llm": engine}}
        path.write_text(yaml.safe_dump(about))
        return str(path)


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)
