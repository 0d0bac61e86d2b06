"""The same weights in a floating-point type: what llama.cpp's own quantizer makes of them.

SmolLM2's F16 target is made so from its Q4_1 file, so that a large and a small form of one model
are at hand without a second download. Matrices become the asked type, vectors stay F32, and
everything else in the file stays as it was.
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

WIDTH = {"F16": 2, "BF16": 2, "F32": 4}
"""Bytes of one weight."""

_OWN = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture", "general.file_type")


def requantize(source: Path, target: Path, kind: str, progress: Progress | None = None) -> None:
    """Write ``source`` (any GGUF whose types ``gguf`` can decode) to ``target`` as F16, F32 or BF16.

    Tensor by tensor, so that memory holds one of them at a time. Raises ``ModelError``.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType

    gguf_file.read(source)  # refuse what is damaged before its own reader meets it
    reader = GGUFReader(source)
    wanted = GGMLQuantizationType[kind]
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name not in _OWN:
            _copy_field(writer, name, field)
    writer.add_file_type(LlamaFileType.ALL_F32 if kind == "F32" else LlamaFileType[f"MOSTLY_{kind}"])
    for tensor in reader.tensors:
        _describe(writer, tensor, _type_of(tensor, wanted))
    whole = False
    try:
        _write(writer, reader.tensors, wanted, WIDTH[kind], progress)
        whole = True
    except NotImplementedError as error:
        raise ModelError(f"{source} cannot be made {kind}: {error}") from error
    finally:
        writer.close()
        if not whole:  # it could not be gone on with
            target.unlink(missing_ok=True)


def _write(
    writer: GGUFWriter, tensors: Sequence[ReaderTensor], wanted: Any, width: int, progress: Progress | None
) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done, total = 0, sum(int(tensor.n_elements) for tensor in tensors)
    for tensor in tensors:
        writer.write_tensor_data(_converted(tensor, _type_of(tensor, wanted)))
        done += int(tensor.n_elements)
        if progress:
            progress(done * width, total * width)


def _copy_field(writer: GGUFWriter, name: str, field: ReaderField) -> None:
    main, *rest = field.types
    writer.add_key_value(name, field.contents(), main, sub_type=rest[-1] if rest else None)


def _type_of(tensor: ReaderTensor, wanted: Any) -> Any:
    """Vectors stay as they are, as in llama.cpp, which only makes matrices smaller."""
    return wanted if len(tensor.shape) > 1 else tensor.tensor_type


def _describe(writer: GGUFWriter, tensor: ReaderTensor, kind: Any) -> None:
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    shape = [int(length) for length in reversed(tensor.shape)]
    nbytes = int(tensor.n_elements) // block * size
    import numpy as np

    writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), nbytes, raw_dtype=kind)


def _converted(tensor: ReaderTensor, kind: Any) -> Any:
    from gguf import dequantize, quantize

    return tensor.data if tensor.tensor_type == kind else quantize(dequantize(tensor.data, tensor.tensor_type), kind)
