"""MLC-LLM's form of a model: a folder that is whole, sound and of the right version, or a clear word why not."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from lab.mlc import Laptop, weights
from lab.tiny import tiny

from edgebench.cli import cli
from edgebench.errors import EdgebenchError, ModelError
from edgebench.modelfiles import mlc


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub cache"))
    return tmp_path


def edgebench(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgebench", *argv]
    return subprocess.run(
        command, env={**os.environ, "COLUMNS": "200", **environment}, capture_output=True, text=True, check=False
    )


def models(*argv: str) -> subprocess.CompletedProcess[str]:
    """``edgebench models`` in this process, for what reads nothing of the environment before it starts."""
    result = CliRunner().invoke(cli, ["models", *argv])
    stderr, status = result.stderr, result.exit_code
    if isinstance(result.exception, EdgebenchError):
        stderr, status = f"{stderr}{result.exception}\n{result.exception.hint}", result.exception.exit_code
    elif result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(argv, status, result.stdout, stderr)


def profile(quantization: str = "q4f16_1", **form: object) -> None:
    text = yaml.safe_dump({"name": "mine", "mlc": {"quantization": quantization, **form}})
    Path("models/mine.yaml").write_text(text)


def test_a_folder_is_read(tmp_path: Path) -> None:
    file = mlc.resolve(weights(tmp_path / "tiny ü $(x)"))
    assert (file.name, file.format, file.quantization, file.architecture) == ("tiny ü $(x)", "mlc", "q4f16_1", "llama")
    assert file.facts.context_length == 2048
    assert file.facts.vocabulary == 300
    assert file.facts.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2
    assert file.facts.parameters == round(2000 * 8 / 4.5)
    assert file.facts.caches == ("tensor-cache.json",)
    assert mlc.resolve(weights(tmp_path / "other", quantization="q4f32_1")).facts.kv_bytes_per_token == 256 * 2


def test_a_draft_with_another_vocabulary_is_refused(laptop: Laptop) -> None:
    draft = weights(laptop.folder / "models" / "draft", shards=1)
    for folder, texts in ((laptop.model, "abcdefgh"), (draft, "abcdefgx")):
        vocabulary = {text: number for number, text in enumerate(texts)}
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    assert list(mlc.tokens(draft)) == [bytes([letter]) for letter in b"abcdefgx"]
    words = ("--engine", "mlc-llm", "--target", str(laptop.model), "--draft", str(draft), "--k", "2")
    done = edgebench("speculative", "--device", laptop.profile(), *words)
    assert done.returncode == 2
    assert "token 7 is 'x', in the target it is 'h'" in done.stderr


def test_an_embedding_table_that_is_only_looked_up_is_not_read(tmp_path: Path) -> None:
    folder = weights(tmp_path / "folder")
    assert mlc.resolve(folder).facts.weights_read_bytes == 2000
    table, head = {"name": "model.embed_tokens.q_weight", "nbytes": 300}, {"name": "lm_head.q_weight", "nbytes": 300}
    shard(folder, records=[table])
    assert mlc.resolve(folder).facts.weights_read_bytes == 2000
    shard(folder, records=[table, head])
    assert mlc.resolve(folder).facts.weights_read_bytes == 1700


def test_the_hash_is_that_of_the_files_not_of_the_place(tmp_path: Path) -> None:
    first = mlc.resolve(weights(tmp_path / "one"))
    assert mlc.resolve(weights(tmp_path / "two")).sha256 == first.sha256
    (tmp_path / "two" / "tokenizer.json").write_text("[]")
    assert mlc.resolve(tmp_path / "two").sha256 != first.sha256
    (tmp_path / "one" / "README.md").write_text("not read by the engine")
    assert mlc.resolve(tmp_path / "one").sha256 == first.sha256


def change(folder: Path, **values: object) -> None:
    path = folder / "mlc-chat-config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shard(folder: Path, **values: object) -> None:
    path = folder / "tensor-cache.json"
    told = json.loads(path.read_text())
    told["records"][0] |= values
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "mlc-chat-config.json").unlink(), "is not a model for MLC-LLM: it has no mlc-chat-config.json"),
        (lambda f: (f / "mlc-chat-config.json").write_text("{"), "mlc-chat-config.json cannot be read"),
        (lambda f: (f / "mlc-chat-config.json").write_bytes(b"\xff\xfe"), "mlc-chat-config.json cannot be read"),
        (lambda f: (f / "mlc-chat-config.json").write_text("[1]"), "is not a JSON object"),
        (lambda f: change(f, model_config=None), "is invalid: it has no model_config"),
        (lambda f: change(f, model_config={"num_hidden_layers": 1}), "is invalid: 'num_attention_heads'"),
        (lambda f: (f / "tensor-cache.json").unlink(), "has no weight index"),
        (lambda f: (f / "tensor-cache.json").write_text('{"records": 1}'), "weight index"),
        (lambda f: shard(f, dataPath="../outside.bin"), "weight index"),
        (lambda f: shard(f, dataPath="/etc/passwd"), "weight index"),
        (lambda f: (f / "params_shard_1.bin").unlink(), "is incomplete: params_shard_1.bin missing"),
        (lambda f: (f / "tokenizer.json").unlink(), "is incomplete: tokenizer.json missing"),
        (
            lambda f: (f / "params_shard_1.bin").write_bytes(b"\x01" * 999),
            "it has 999 bytes, the weight index says 1000",
        ),
        (lambda f: (f / "params_shard_1.bin").write_bytes(b"\x02" * 1000), "params_shard_1.bin is damaged: its MD5"),
    ],
)
def test_a_damaged_folder_is_refused_by_file(tmp_path: Path, damage: Callable[[Path], object], said: str) -> None:
    folder = weights(tmp_path / "folder")
    damage(folder)
    with pytest.raises(ModelError, match=said.replace("(", r"\(")):
        mlc.resolve(folder)
    done = models("show", str(folder))
    assert done.returncode == 2
    assert said in done.stderr


def test_a_run_takes_the_form_of_its_engine(laptop: Laptop) -> None:
    file = tiny(laptop.folder / "tiny.gguf")
    done = edgebench("run", "--device", laptop.profile(), "--engine", "mlc-llm", "--model", str(file))
    assert done.returncode == 2
    assert "this engine takes a folder of MLC-LLM's weights" in done.stderr
    done = edgebench("run", "--engine", "llama.cpp", "--model", str(laptop.model))
    assert done.returncode == 2
    assert "this engine takes a GGUF file" in done.stderr


def test_weights_of_another_version_are_told_on_the_device(laptop: Laptop) -> None:
    old = weights(laptop.folder / "models" / "old", cache="ndarray-cache.json")
    argv = ("--ctx", "256", "--prompt-tokens", "8", "--gen-tokens", "2", "--rounds", "1", "--settle", "0")
    done = edgebench("run", "--device", laptop.profile(), "--engine", "mlc-llm", "--model", str(old), *argv)
    assert done.returncode == 1
    assert "is ndarray-cache.json, and this version of MLC-LLM reads tensor-cache.json only" in done.stderr


# --- the catalogue ---------------------------------------------------------------------------


def test_a_profile_with_a_folder(tmp_path: Path) -> None:
    folder = weights(tmp_path / "folder")
    profile(path=str(folder))
    done = models("pull", "mine", "--json")
    assert done.returncode == 0, done.stderr
    (file,) = json.loads(done.stdout)["models"]
    assert (file["path"], file["quantization"]) == (str(folder), "q4f16_1")
    assert "weight index  tensor-cache.json (MLC-LLM v0.20 and later)" in models("show", "mine").stdout
    # Same size, same time: only reading it again tells.
    bad = folder / "params_shard_0.bin"
    stamp = bad.stat()
    bad.write_bytes(b"\x07" * 1000)
    os.utime(bad, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    done = models("verify", "mine")
    assert done.returncode == 2
    assert "params_shard_0.bin is damaged: its MD5 is not" in done.stderr
    profile("q0f16", path=str(folder))
    done = models("pull", "mine")
    assert "is q4f16_1" in done.stderr or "damaged" in done.stderr


def test_a_folder_by_its_path(tmp_path: Path) -> None:
    weights(tmp_path / "my folder")
    for command in ("pull", "verify"):
        done = models(command, "./my folder")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("my folder  ")
    bad = tmp_path / "my folder" / "params_shard_0.bin"
    stamp = bad.stat()
    bad.write_bytes(b"\x07" * 1000)
    os.utime(bad, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    done = models("verify", "./my folder")
    assert done.returncode == 2
    assert "params_shard_0.bin is damaged: its MD5 is not" in done.stderr
    assert "there is no such file" in models("verify", "./nowhere/x").stderr


def test_two_forms_of_one_model_are_not_the_same_thing() -> None:
    shown = models("show", "llama-2-7b-chat-q4_0").stdout
    assert "The GGUF form (Q4_0) and the MLC form (q4f16_1) are not equivalent" in " ".join(shown.split())


def test_a_model_without_that_form() -> None:
    done = models("pull", "smollm2-135m-q4_1", "--form", "mlc")
    assert done.returncode == 2
    assert "smollm2-135m-q4_1 has no MLC-LLM format" in done.stderr


# --- the hub ---------------------------------------------------------------------------------


class Hub(http.server.ThreadingHTTPServer):
    """A hub with one repository: a folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folder = folder
        self.asked: list[str] = []


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        files = {file.name: file.read_bytes() for file in self.server.folder.iterdir()}
        name = path.rsplit("/", 1)[1]
        self.server.asked.append(f"{self.command} {name}")
        if path.startswith("/api/models/lab/tiny-MLC"):
            about = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
            data = json.dumps({"id": "lab/tiny-MLC", "sha": "f" * 40, "siblings": about}).encode()
        elif path == f"/lab/tiny-MLC/resolve/main/{name}" and name in files:
            data = files[name]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("x-repo-commit", "f" * 40)
        self.send_header("etag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = weights(tmp_path / "repository")
    (folder / "README.md").write_text("long")
    server = Hub(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_folder_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    profile(hub="lab/tiny-MLC")
    assert "cached      no" in edgebench("models", "show", "mine", HF_ENDPOINT=endpoint).stdout
    done = edgebench("models", "pull", "mine", "--json", HF_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    (file,) = json.loads(done.stdout)["models"]
    assert sorted(path.name for path in Path(file["path"]).iterdir()) == [
        "mlc-chat-config.json",
        "params_shard_0.bin",
        "params_shard_1.bin",
        "tensor-cache.json",
        "tokenizer.json",
    ]
    # It is here now: nothing is asked again, and nobody is needed.
    hub.asked.clear()
    assert edgebench("models", "pull", "mine", HF_ENDPOINT=endpoint).returncode == 0
    assert hub.asked == []
    assert "mlc" in edgebench("models", "list").stdout


def test_a_hub_with_a_damaged_shard(hub: Hub) -> None:
    (hub.folder / "params_shard_1.bin").write_bytes(b"\x09" * 1000)
    profile(hub="lab/tiny-MLC")
    done = edgebench("models", "pull", "mine", HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}")
    assert done.returncode == 2
    assert "params_shard_1.bin is damaged: its MD5 is not" in done.stderr


def test_a_shard_that_was_damaged_here_is_fetched_again(hub: Hub) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    profile(hub="lab/tiny-MLC")
    (file,) = json.loads(edgebench("models", "pull", "mine", "--json", HF_ENDPOINT=endpoint).stdout)["models"]
    bad = Path(file["path"]) / "params_shard_1.bin"
    bad.resolve().write_bytes(b"\x05" * 1000)
    hub.asked.clear()
    done = edgebench("models", "verify", "mine", HF_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    assert [asked for asked in hub.asked if asked.startswith("GET params")] == ["GET params_shard_1.bin"]
    assert bad.read_bytes() == b"\x01" * 1000


def test_a_hub_that_breaks_off_goes_on_later(hub: Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    shutil.move(hub.folder / "params_shard_1.bin", tmp_path / "later.bin")
    profile(hub="lab/tiny-MLC")
    done = edgebench("models", "pull", "mine", HF_ENDPOINT=endpoint)
    assert done.returncode == 2
    assert "is incomplete: params_shard_1.bin missing" in done.stderr
    shutil.move(tmp_path / "later.bin", hub.folder / "params_shard_1.bin")
    done = edgebench("models", "pull", "mine", HF_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr


def test_a_hub_without_such_a_repository(hub: Hub) -> None:
    profile(hub="lab/nothing")
    done = edgebench("models", "pull", "mine", HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}")
    assert done.returncode == 2
    assert "lab/nothing" in done.stderr
    assert "Traceback" not in done.stderr
