"""Reads the header of an untrusted GGUF file: a few kilobytes, never the weights.

Names, types and block sizes come from the ``gguf`` package. Its own reader takes seconds for a
vocabulary, and a wrong count in a damaged file makes it loop for ever. This one checks every count
against the remaining bytes.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edgebench.core import Json
from edgebench.errors import ModelError

MAX_ITEMS = 1 << 24
"""Items of one array, keys or tensors of one file: ten times what the largest models have."""

MAX_TEXT = 1 << 24
"""Bytes of one text, such as a chat template."""

MAX_KEPT_ITEMS = 4096
"""Longer arrays (vocabularies, merges) are counted and skipped unless requested."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9

_CONVERT = "llama.cpp's convert_hf_to_gguf.py makes a GGUF file."

_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
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
    """Everything before the weights."""

    version: int
    fields: Mapping[str, Json | Skipped]
    tensors: Sequence[Tensor]
    size: int
    """Of the whole file, bytes."""


def read(path: Path, *, keep: Sequence[str] = ()) -> Header:
    """The header. ``keep``: keys of long arrays to read too (texts as ``bytes``).

    Raises ``ModelError`` if the file does not exist, is not GGUF, is damaged or truncated.
    """
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder, not a GGUF file", "Name the .gguf file inside it.")
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise ModelError(f"{path} is not a file, but a pipe or a device")
        with path.open("rb") as file:
            return _Reader(path, file, frozenset(keep)).header()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such file", "`edgebench models list` lists all models.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


class _Reader:
    def __init__(self, path: Path, file: BinaryIO, keep: frozenset[str]) -> None:
        self.path, self.file, self.keep = path, file, keep
        self.size = os.fstat(file.fileno()).st_size
        self.position = 0

    def damage_error(self, problem: str) -> ModelError:
        return ModelError(f"{self.path} is damaged: {problem} (at byte {self.position})", "Fetch the file again.")

    def truncation_error(self) -> ModelError:
        message = f"{self.path} is truncated: it ends inside its header, at byte {self.size}"
        return ModelError(message, "Fetch the file again.")

    def take(self, count: int) -> bytes:
        data = self.file.read(count) if count <= self.size - self.position else b""
        if len(data) < count:
            raise self.truncation_error()
        self.position += count
        return data

    def skip(self, count: int) -> None:
        if count > self.size - self.position:
            raise self.truncation_error()
        self.position = self.file.seek(self.position + count)

    def number(self, layout: str = "<Q") -> int:
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def count(self, what: str, smallest: int) -> int:
        """A number of items of at least ``smallest`` bytes each. Raises ``ModelError`` if they exceed the file."""
        value = self.number()
        if value > MAX_ITEMS:
            raise self.damage_error(f"it claims {value} {what}")
        if value * smallest > self.size - self.position:
            raise self.truncation_error()
        return value

    def text(self) -> bytes:
        length = self.number()
        if length > MAX_TEXT:
            raise self.damage_error(f"it claims a text of {length} bytes")
        return self.take(length)

    def header(self) -> Header:
        version = self._read_opening()
        tensors, keys = self.count("tensors", 24), self.count("keys", 12)
        fields: dict[str, Json | Skipped] = {}
        for _ in range(keys):
            name = self.text().decode("utf-8", "replace")
            if name in fields:
                raise self.damage_error(f"the key {name!r} occurs twice")
            fields[name] = self._value(name)
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self.damage_error(f"its alignment is {alignment!r}, not a power of two")
        tensors_read = [self._tensor() for _ in range(tensors)]
        return Header(version, fields, self._place_tensors(tensors_read, alignment), self.size)

    def _read_opening(self) -> int:
        if self.size == 0:
            raise ModelError(f"{self.path} is empty (0 bytes)", "Fetch the file again.")
        magic_bytes = self.file.read(32)
        self.file.seek(0)
        if magic_bytes[:4] != b"GGUF":
            for magic, description, hint in _OTHER_FORMATS:
                if magic_bytes[: len(magic)].lower() == magic.lower():
                    raise ModelError(f"{self.path} {description}", hint)
            if magic_bytes[8:10] == b'{"':
                raise ModelError(f"{self.path} is a safetensors file", _CONVERT)
            description = f"{self.path} is not a GGUF file: it begins with {magic_bytes[:4]!r}, not b'GGUF'"
            raise ModelError(description, "`edgebench models list` shows models to start with.")
        self.take(4)
        version = self.number("<I")
        if version & 0xFFFF == 0 and version:
            raise ModelError(f"{self.path} is big-endian GGUF", "Get the ordinary, little-endian form.")
        if version not in (2, 3):
            raise ModelError(f"{self.path} is GGUF version {version}; only versions 2 and 3 are supported")
        return version

    def _value(self, name: str) -> Json | Skipped:
        value_type = self.number("<I")
        if value_type == _TEXT:
            return self.text().decode("utf-8", "replace")
        if value_type == _ARRAY:
            return self._array(name)
        if value_type not in _SCALARS:
            raise self.damage_error(f"the key {name[:80]!r} has a value of the unknown type {value_type}")
        return struct.unpack(_SCALARS[value_type], self.take(struct.calcsize(_SCALARS[value_type])))[0]

    def _array(self, name: str) -> Json | Skipped:
        item_type = self.number("<I")
        if item_type != _TEXT and item_type not in _SCALARS:
            raise self.damage_error(f"the key {name[:80]!r} has an array of the type {item_type}")
        width = 8 if item_type == _TEXT else struct.calcsize(_SCALARS[item_type])
        count = self.count(f"items of {name[:80]!r}", width)
        is_kept = count <= MAX_KEPT_ITEMS or name in self.keep
        if item_type != _TEXT:
            if is_kept:
                return list(struct.unpack(f"<{count}{_SCALARS[item_type][1:]}", self.take(count * width)))
            self.skip(count * width)
            return Skipped(count)
        if is_kept:
            return [self.text() for _ in range(count)]
        for _ in range(count):
            self.skip(self.number())
        return Skipped(count)

    def _tensor(self) -> Tensor:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self.text().decode("utf-8", "replace")
        dimensions = self.number("<I")
        if not 1 <= dimensions <= 4:
            raise self.damage_error(f"the tensor {name[:80]!r} has {dimensions} dimensions")
        shape = struct.unpack(f"<{dimensions}Q", self.take(8 * dimensions))
        type_id, offset = self.number("<I"), self.number()
        try:
            tensor_type = GGMLQuantizationType(type_id)
            block, block_size = GGML_QUANT_SIZES[tensor_type]
        except (ValueError, KeyError) as error:
            raise ModelError(
                f"{self.path}: the tensor {name[:80]!r} is of the unknown type {type_id}",
                "If the file is newer than edgebench, run `pip install --upgrade gguf`; otherwise the file is damaged.",
            ) from error
        elements = 1
        for length in shape:
            elements *= length
        if shape[0] % block or elements == 0:
            raise self.damage_error(f"the tensor {name[:80]!r} has the shape {list(shape)} in blocks of {block}")
        return Tensor(name, shape, tensor_type.name, elements, elements // block * block_size, offset)

    def _place_tensors(self, tensors: Sequence[Tensor], alignment: int) -> list[Tensor]:
        """The tensors with offsets from the start of the file. Raises ``ModelError`` if one lies beyond its end."""
        start = -(-self.position // alignment) * alignment
        end = max((start + tensor.offset + tensor.size for tensor in tensors), default=0)
        if end > self.size:
            raise ModelError(
                f"{self.path} is truncated: its weights end at byte {end}, the file at byte {self.size}",
                "Fetch the file again.",
            )
        return [replace(tensor, offset=start + tensor.offset) for tensor in tensors]
