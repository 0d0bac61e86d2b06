"""Whether a draft can help a target at all, told from the headers of their files, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.core import Device, DeviceFacts, ModelFile, Option
from edgebench.errors import ModelError, UsageError
from edgebench.modelfiles import fits

MOST_DIFFERENCE = 128
"""Tokens by which llama.cpp lets two vocabularies differ in size."""

FIRST_COMPARED = 5
"""llama.cpp compares the texts from this token on: those before are special, and named as one likes."""


def check(target: ModelFile, draft: ModelFile) -> list[str]:
    """What is odd about a pair that works. Raises ``UsageError`` for one that doesn't, with the reason.

    The rules are llama.cpp's: the same type of tokenizer, the same automatic first and last token,
    sizes that differ by at most 128, the same text for every token from number 5 on.
    """
    if target.sha256 == draft.sha256:
        raise UsageError(
            f"target and draft are the same file ({target.path})",
            "A model cannot be its own draft: it would cost as much as it saves. Name a smaller one of its family.",
        )
    for model in (target, draft):
        check_rolls_back(model)
    why = _difference(target, draft)
    if why:
        raise UsageError(
            f"{draft.name} cannot draft for {target.name}: {why}",
            "A draft must have the target's own vocabulary: look for a smaller model of the same family.",
        )
    if draft.size > target.size:
        return [f"the draft {draft.name} is larger than the target {target.name}: it can hardly be faster"]
    return []


def check_rolls_back(model: ModelFile) -> None:
    """Raises ``UsageError`` for a target or a draft that cannot drop refused tokens from its memory."""
    if model.facts.recurrent:
        raise UsageError(
            f"{model.name} ({model.architecture}) is recurrent: it cannot drop refused tokens from its memory",
            "Speculation needs models with a KV cache in every layer.",
        )


def _difference(target: ModelFile, draft: ModelFile) -> str:
    from edgebench import modelfiles

    one, other = target.facts, draft.facts
    if one.tokenizer != other.tokenizer:
        return f"its tokenizer is of the type {other.tokenizer}, the target's {one.tokenizer}"
    for mine, its, what in ((one.add_bos, other.add_bos, "a first"), (one.add_eos, other.add_eos, "a last")):
        if mine is not None and its is not None and mine != its:
            return f"one of the two adds {what} token by itself, the other does not"
    sizes = [facts.vocabulary or 0 for facts in (one, other)]
    if abs(sizes[0] - sizes[1]) > MOST_DIFFERENCE:
        return f"it has {sizes[1]} tokens, the target {sizes[0]}: more than {MOST_DIFFERENCE} apart"
    pairs = enumerate(zip(modelfiles.tokens(target.path), modelfiles.tokens(draft.path), strict=False))
    for token, (here, there) in pairs:
        if token >= FIRST_COMPARED and here != there:
            return f"token {token} is {_text(there)}, in the target it is {_text(here)}"
    return ""


def _text(token: bytes) -> str:
    return repr(token.decode("utf-8", "replace"))


def needs_bytes(
    engine: str, model: ModelFile, options: Mapping[str, Option], gpu_layers: Option | None
) -> tuple[int, int]:
    """Bytes that it takes in RAM and on the GPU, estimated from its header, by the layers that lie there."""
    need = fits.estimate(engine, model.facts, options)
    total = need.total_b if need else float(model.size)
    layers = model.facts.layers or 0
    there = 1.0 if gpu_layers == "all" else min(int(gpu_layers or 0), layers) / layers if layers else 0.0
    return round(total * (1 - there)), round(total * there)


def check_fit(parts: Mapping[str, tuple[int, int]], facts: DeviceFacts, device: Device, backend: str) -> None:
    """Raises ``ModelError`` where models need more memory than there is. ``parts``: ``needs_bytes`` by name.

    A GPU whose memory nobody tells is not judged; one that shares the RAM takes it from there.
    """
    shared = backend == "metal" or device.system == "android"
    ram = {name: here + there if shared else here for name, (here, there) in parts.items()}
    _fit(ram, facts.ram_b, device.name, "a smaller --ctx, or --gpu-layers.")
    known = [] if shared else [gpu.memory_b for gpu in facts.gpus if gpu.memory_b]
    if known:
        gpu = {name: there for name, (_, there) in parts.items()}
        place = f"the {'GPU' if len(known) == 1 else 'GPUs'} of {device.name}"
        _fit(gpu, sum(known), place, "a smaller --ctx, or fewer --gpu-layers or --draft-gpu-layers.")


def _fit(parts: Mapping[str, int], held: float | None, place: str, hint: str) -> None:
    needed = sum(parts.values())
    if held is None or needed <= held:
        return
    each = [f"{name} {size / 2**30:.1f} GiB" for name, size in parts.items() if size]
    total = f"{' + '.join(each)} = {needed / 2**30:.1f} GiB do" if len(each) > 1 else f"{each[0]} does"
    raise ModelError(
        f"{total} not fit into the {held / 2**30:.1f} GiB of {place}",
        f"Estimated from the files' headers: weights, KV cache, compute buffer. Use a smaller quantization, {hint}",
    )
