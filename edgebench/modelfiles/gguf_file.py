"""The header of a GGUF file, read with distrust: a few kilobytes, never the weights.

The ``gguf`` package knows the format's names, types and block sizes, and they are taken from it.
Its own reader is for writers' files: it takes seconds for a vocabulary, and a wrong count in a
damaged file keeps it busy for ever. Here every count is held against the bytes that are left.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgebench.core import Json
from edgebench.errors import ModelError

MOST_ITEMS = 1 << 24
"""Items of one array, keys or tensors of one file: ten times what the largest models have."""

MOST_TEXT = 1 << 24
"""Bytes of one text, such as a chat template."""

KEPT_ITEMS = 4096
"""Longer arrays (vocabularies, merges) are counted and skipped unless asked for."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9

_CONVERT = "llama.cpp's convert_hf_to_gguf.py makes a GGUF file."

_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the model itself", "`git lfs pull` fetches the real file."),
    (b"<!DOCTYPE", "is a web page", "Download the file itself, not the page about it."),
    (b"<html", "is a web page", "Download the file itself, not the page about it."),
    (b"PK\x03\x04", "is a zip archive (a PyTorch checkpoint?)", _CONVERT),
    (b"lmgg", "is in GGML, the format before GGUF", "Get the GGUF form of this model."),
    (b"fmgg", "is in GGMF, a format before GGUF", "Get the GGUF form of this model."),
    (b"tjgg", "is in GGJT, a format before GGUF", "Get the GGUF form of this model."),
)


class Skipped(int):
    """An array that was counted but not kept."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: its name, its shape (fastest dimension first), its type's name and its bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    elements: int
    size: int
    offset: int
    """From the start of the file, bytes."""


@dataclass(frozen=True)
class Header:
    """What stands before the weights."""

    version: int
    fields: Mapping[str, Json | Skipped]
    tensors: Sequence[Tensor]
    size: int
    """Of the whole file, bytes."""


def read(path: Path, *, keep: Sequence[str] = ()) -> Header:
    """The header. ``keep`` names long arrays that are wanted too (texts as ``bytes``).

    Raises ``ModelError`` where the file isn't there, isn't GGUF, is damaged or is too short.
    """
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder, not a GGUF file", "Name the .gguf file inside it.")
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise ModelError(f"{path} is not a file, but a pipe or a device")
        with path.open("rb") as file:
            return _Reader(path, file, frozenset(keep)).header()
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: there is no such file", "`edgebench models list` shows the models there are."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


class _Reader:
    def __init__(self, path: Path, file: BinaryIO, keep: frozenset[str]) -> None:
        self.path, self.file, self.keep = path, file, keep
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0

    def damaged(self, what: str) -> ModelError:
        return ModelError(f"{self.path} is damaged: {what} (at byte {self.at})", "Fetch the file again.")

    def truncated(self) -> ModelError:
        what = f"{self.path} is truncated: it ends inside its header, at byte {self.size}"
        return ModelError(what, "Fetch the file again.")

    def take(self, count: int) -> bytes:
        data = self.file.read(count) if count <= self.size - self.at else b""
        if len(data) < count:
            raise self.truncated()
        self.at += count
        return data

    def skip(self, count: int) -> None:
        if count > self.size - self.at:
            raise self.truncated()
        self.at = self.file.seek(self.at + count)

    def number(self, form: str = "<Q") -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def count(self, what: str, smallest: int) -> int:
        """A number of things that take at least ``smallest`` bytes each."""
        value = self.number()
        if value > MOST_ITEMS:
            raise self.damaged(f"it claims {value} {what}")
        if value * smallest > self.size - self.at:
            raise self.truncated()
        return value

    def text(self) -> bytes:
        length = self.number()
        if length > MOST_TEXT:
            raise self.damaged(f"it claims a text of {length} bytes")
        return self.take(length)

    def header(self) -> Header:
        version = self._opening()
        tensors, keys = self.count("tensors", 24), self.count("keys", 12)
        fields: dict[str, Json | Skipped] = {}
        for _ in range(keys):
            name = self.text().decode("utf-8", "replace")
            if name in fields:
                raise self.damaged(f"the key {name!r} stands twice")
            fields[name] = self._value(name)
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self.damaged(f"its alignment is {alignment!r}, not a power of two")
        found = [self._tensor() for _ in range(tensors)]
        return Header(version, fields, self._placed(found, alignment), self.size)

    def _opening(self) -> int:
        if self.size == 0:
            raise ModelError(f"{self.path} is empty (0 bytes)", "Fetch the file again.")
        begin = self.file.read(32)
        self.file.seek(0)
        if begin[:4] != b"GGUF":
            for magic, what, hint in _OTHERS:
                if begin[: len(magic)].lower() == magic.lower():
                    raise ModelError(f"{self.path} {what}", hint)
            if begin[8:10] == b'{"':
                raise ModelError(f"{self.path} holds safetensors", _CONVERT)
            what = f"{self.path} is not a GGUF file: it begins with {begin[:4]!r}, not b'GGUF'"
            raise ModelError(what, "`edgebench models list` shows models to start with.")
        self.take(4)
        version = self.number("<I")
        if version & 0xFFFF == 0 and version:
            raise ModelError(f"{self.path} is big-endian GGUF", "Get the ordinary, little-endian form.")
        if version not in (2, 3):
            raise ModelError(f"{self.path} is GGUF version {version}; versions 2 and 3 are read")
        return version

    def _value(self, name: str) -> Json | Skipped:
        kind = self.number("<I")
        if kind == _TEXT:
            return self.text().decode("utf-8", "replace")
        if kind == _ARRAY:
            return self._array(name)
        if kind not in _SCALARS:
            raise self.damaged(f"the key {name[:80]!r} has a value of the unknown type {kind}")
        return struct.unpack(_SCALARS[kind], self.take(struct.calcsize(_SCALARS[kind])))[0]

    def _array(self, name: str) -> Json | Skipped:
        kind = self.number("<I")
        if kind != _TEXT and kind not in _SCALARS:
            raise self.damaged(f"the key {name[:80]!r} has an array of the type {kind}")
        width = 8 if kind == _TEXT else struct.calcsize(_SCALARS[kind])
        count = self.count(f"items of {name[:80]!r}", width)
        wanted = count <= KEPT_ITEMS or name in self.keep
        if kind != _TEXT:
            if wanted:
                return list(struct.unpack(f"<{count}{_SCALARS[kind][1:]}", self.take(count * width)))
            self.skip(count * width)
            return Skipped(count)
        if wanted:
            return [self.text() for _ in range(count)]
        for _ in range(count):
            self.skip(self.number())
        return Skipped(count)

    def _tensor(self) -> Tensor:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self.text().decode("utf-8", "replace")
        dimensions = self.number("<I")
        if not 1 <= dimensions <= 4:
            raise self.damaged(f"the tensor {name[:80]!r} has {dimensions} dimensions")
        shape = struct.unpack(f"<{dimensions}Q", self.take(8 * dimensions))
        number, offset = self.number("<I"), self.number()
        try:
            kind = GGMLQuantizationType(number)
            block, block_size = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise ModelError(
                f"{self.path}: the tensor {name[:80]!r} is of type {number}, which is not known here",
                "Where the file is newer than edgebench: `pip install --upgrade gguf`. Else it is damaged.",
            ) from error
        elements = 1
        for length in shape:
            elements *= length
        if shape[0] % block or elements == 0:
            raise self.damaged(f"the tensor {name[:80]!r} has the shape {list(shape)} in blocks of {block}")
        return Tensor(name, shape, kind.name, elements, elements // block * block_size, offset)

    def _placed(self, tensors: Sequence[Tensor], alignment: int) -> list[Tensor]:
        """The same tensors with offsets from the start of the file; the last must lie inside it."""
        start = -(-self.at // alignment) * alignment
        end = max((start + tensor.offset + tensor.size for tensor in tensors), default=0)
        if end > self.size:
            raise ModelError(
                f"{self.path} is truncated: its weights end at byte {end}, the file at byte {self.size}",
                "Fetch the file again.",
            )
        return [Tensor(t.name, t.shape, t.type, t.elements, t.size, start + t.offset) for t in tensors]
