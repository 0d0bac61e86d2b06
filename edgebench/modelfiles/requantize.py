"""Converts a model's weights to a floating-point type, like llama.cpp's own quantizer.

SmolLM2's F16 target is converted from its Q4_1 file, which provides a large and a small version of one
model without a second download. Matrices become the requested type, vectors stay F32, and everything
else in the file stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebench.core import Progress
from edgebench.errors import ModelError
from edgebench.modelfiles import gguf_file

if TYPE_CHECKING:
    from gguf import GGUFWriter, ReaderField, ReaderTensor

BYTES_PER_WEIGHT = {"F16": 2, "BF16": 2, "F32": 4}
"""Bytes of one weight."""

_SKIPPED_FIELDS = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture", "general.file_type")


def requantize(source: Path, target: Path, float_type: str, progress: Progress | None = None) -> None:
    """Write ``source`` (any GGUF whose types ``gguf`` can decode) to ``target`` as F16, F32 or BF16.

    Holds one tensor in memory at a time. Raises ``ModelError``.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType

    gguf_file.read(source)  # reject a damaged file before gguf's own reader sees it
    reader = GGUFReader(source)
    target_type = GGMLQuantizationType[float_type]
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name not in _SKIPPED_FIELDS:
            _copy_field(writer, name, field)
    writer.add_file_type(LlamaFileType.ALL_F32 if float_type == "F32" else LlamaFileType[f"MOSTLY_{float_type}"])
    for tensor in reader.tensors:
        _describe(writer, tensor, _type_of(tensor, target_type))
    is_complete = False
    try:
        _write(writer, reader.tensors, target_type, BYTES_PER_WEIGHT[float_type], progress)
        is_complete = True
    except NotImplementedError as error:
        raise ModelError(f"cannot convert {source} to {float_type}: {error}") from error
    finally:
        writer.close()
        if not is_complete:
            target.unlink(missing_ok=True)


def _write(
    writer: GGUFWriter,
    tensors: Sequence[ReaderTensor],
    target_type: Any,
    bytes_per_weight: int,
    progress: Progress | None,
) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done, total = 0, sum(int(tensor.n_elements) for tensor in tensors)
    for tensor in tensors:
        writer.write_tensor_data(_convert(tensor, _type_of(tensor, target_type)))
        done += int(tensor.n_elements)
        if progress:
            progress(done * bytes_per_weight, total * bytes_per_weight)


def _copy_field(writer: GGUFWriter, name: str, field: ReaderField) -> None:
    main, *rest = field.types
    writer.add_key_value(name, field.contents(), main, sub_type=rest[-1] if rest else None)


def _type_of(tensor: ReaderTensor, target_type: Any) -> Any:
    """The type to write: vectors keep theirs, as in llama.cpp, which only quantizes matrices."""
    return target_type if len(tensor.shape) > 1 else tensor.tensor_type


def _describe(writer: GGUFWriter, tensor: ReaderTensor, tensor_type: Any) -> None:
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[tensor_type]
    shape = [int(length) for length in reversed(tensor.shape)]
    nbytes = int(tensor.n_elements) // block * size
    import numpy as np

    writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), nbytes, raw_dtype=tensor_type)


def _convert(tensor: ReaderTensor, tensor_type: Any) -> Any:
    from gguf import dequantize, quantize

    if tensor.tensor_type == tensor_type:
        return tensor.data
    return quantize(dequantize(tensor.data, tensor.tensor_type), tensor_type)
