"""Checks from the models' headers whether a draft can help a target at all, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench.core import Device, DeviceFacts, ModelFile, Option
from edgebench.errors import ModelError, UsageError
from edgebench.modelfiles import fits

MAX_SIZE_DIFFERENCE = 128
"""Largest difference of two vocabularies' sizes that llama.cpp accepts, tokens."""

FIRST_COMPARED_TOKEN = 5
"""llama.cpp compares the texts from this token on; those before are special tokens with arbitrary names."""


def check(target: ModelFile, draft: ModelFile) -> list[str]:
    """Warnings about a pair that works. Raises ``UsageError`` for one that does not, with the reason.

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
    reason = _difference(target, draft)
    if reason:
        raise UsageError(
            f"{draft.name} cannot draft for {target.name}: {reason}",
            "A draft must have the target's own vocabulary: look for a smaller model of the same family.",
        )
    if draft.size > target.size:
        return [f"the draft {draft.name} is larger than the target {target.name}: it can hardly be faster"]
    return []


def check_rolls_back(model: ModelFile) -> None:
    """Raises ``UsageError`` for a target or a draft that cannot remove rejected tokens from its state."""
    if model.facts.recurrent:
        raise UsageError(
            f"{model.name} ({model.architecture}) is recurrent: it cannot remove rejected tokens from its state",
            "Speculation needs models with a KV cache in every layer.",
        )


def _difference(target: ModelFile, draft: ModelFile) -> str:
    from edgebench import modelfiles

    target_facts, draft_facts = target.facts, draft.facts
    if target_facts.tokenizer != draft_facts.tokenizer:
        return f"its tokenizer is of the type {draft_facts.tokenizer}, the target's {target_facts.tokenizer}"
    for target_flag, draft_flag, position in (
        (target_facts.add_bos, draft_facts.add_bos, "a first"),
        (target_facts.add_eos, draft_facts.add_eos, "a last"),
    ):
        if target_flag is not None and draft_flag is not None and target_flag != draft_flag:
            return f"one of the two adds {position} token by itself, the other does not"
    sizes = [facts.vocabulary or 0 for facts in (target_facts, draft_facts)]
    if abs(sizes[0] - sizes[1]) > MAX_SIZE_DIFFERENCE:
        return f"it has {sizes[1]} tokens, the target {sizes[0]}: more than {MAX_SIZE_DIFFERENCE} apart"
    texts = enumerate(zip(modelfiles.tokens(target.path), modelfiles.tokens(draft.path), strict=False))
    for token, (target_text, draft_text) in texts:
        if token >= FIRST_COMPARED_TOKEN and target_text != draft_text:
            return f"token {token} is {_text(draft_text)}, in the target it is {_text(target_text)}"
    return ""


def _text(token: bytes) -> str:
    return repr(token.decode("utf-8", "replace"))


def memory_split(
    engine: str, model: ModelFile, options: Mapping[str, Option], gpu_layers: Option | None
) -> tuple[int, int]:
    """Bytes that a model needs in (RAM, GPU memory), estimated from its header and the number of offloaded layers."""
    estimate = fits.estimate(engine, model.facts, options)
    total = estimate.total_b if estimate else float(model.size)
    layers = model.facts.layers or 0
    gpu_share = 1.0 if gpu_layers == "all" else min(int(gpu_layers or 0), layers) / layers if layers else 0.0
    return round(total * (1 - gpu_share)), round(total * gpu_share)


def check_fit(parts: Mapping[str, tuple[int, int]], facts: DeviceFacts, device: Device, backend: str) -> None:
    """Raises ``ModelError`` for models that need more memory than the device has. ``parts``: ``memory_split`` by name.

    A GPU of unknown memory is not checked; one that shares the RAM counts towards it.
    """
    shared = backend == "metal" or device.system == "android"
    ram = {name: ram_b + gpu_b if shared else ram_b for name, (ram_b, gpu_b) in parts.items()}
    _check_capacity(ram, facts.ram_b, device.name, "a smaller --ctx, or --gpu-layers.")
    gpu_sizes = [] if shared else [gpu.memory_b for gpu in facts.gpus if gpu.memory_b]
    if gpu_sizes:
        gpu = {name: gpu_b for name, (_, gpu_b) in parts.items()}
        location = f"the {'GPU' if len(gpu_sizes) == 1 else 'GPUs'} of {device.name}"
        _check_capacity(gpu, sum(gpu_sizes), location, "a smaller --ctx, or fewer --gpu-layers or --draft-gpu-layers.")


def _check_capacity(parts: Mapping[str, int], available: float | None, location: str, hint: str) -> None:
    required = sum(parts.values())
    if available is None or required <= available:
        return
    listing = [f"{name} {size / 2**30:.1f} GiB" for name, size in parts.items() if size]
    total = f"{' + '.join(listing)} = {required / 2**30:.1f} GiB do" if len(listing) > 1 else f"{listing[0]} does"
    raise ModelError(
        f"{total} not fit into the {available / 2**30:.1f} GiB of {location}",
        f"Estimated from the files' headers: weights, KV cache, compute buffer. Use a smaller quantization, {hint}",
    )
