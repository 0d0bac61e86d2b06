"""What is known of device, engine and model in a record: typed where it is read, kept as it is elsewhere.

In JSON each is one flat object, as devices, engines and model headers give it: a value that has no
field here, or isn't of its field's type, is in ``extra`` and keeps its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from edgebench.core.fields import Fields, flat
from edgebench.core.values import Option

Part = TypeVar("Part", "DeviceFacts", "EngineFacts", "ModelFacts")


@dataclass(frozen=True)
class Cluster:
    """Processors of one kind."""

    cpus: tuple[int, ...] = ()
    max_hz: int | None = None
    threads: int | None = None
    """How many they are, where the system does not say which."""


@dataclass(frozen=True)
class Gpu:
    """A graphics processor, by its driver."""

    name: str | None = None
    driver: str | None = None
    """Version of the driver."""
    memory_b: int | None = None
    cores: int | None = None


@dataclass(frozen=True)
class DeviceFacts:
    """A device, by its own system."""

    cpu: str | None = None
    model: str | None = None
    os: str | None = None
    kernel: str | None = None
    build: str | None = None
    """Of the operating system."""
    driver: str | None = None
    """Version of the GPU's driver."""
    architecture: str | None = None
    cores: int | None = None
    threads: int | None = None
    ram_b: float | None = None
    ram_available_b: float | None = None
    swap_b: float | None = None
    instruction_sets: tuple[str, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    """The fastest first, where the system does not number its processors."""
    gpus: tuple[Gpu, ...] = ()
    boot: str | None = None
    """The same for all profiles of one machine until it boots again."""
    hypervisor: str | None = None
    governor: str | None = None
    """Of the first processor's clock."""
    power_source: str | None = None
    """``mains`` or ``battery``."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why a question has no answer, by its name."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> DeviceFacts:
        return Fields(document).into(cls)


@dataclass(frozen=True)
class EngineFacts:
    """An engine: what its program says of itself, and what it said while it loaded."""

    name: str | None = None
    build: str | None = None
    path: str | None = None
    """Of its program on the device."""
    sha256: str | None = None
    """Of its program."""
    backend: str | None = None
    """The backend that computes, by the engine's own word: ``cpu``, ``cuda``, ``metal``, ``opencl``, ``vulkan`` …"""
    layers_offloaded: int | None = None
    layers: int | None = None
    buffers: Mapping[str, float] = field(default_factory=dict)
    """``{"CPU model": bytes, "CPU KV": bytes, …}``"""
    instruction_sets: tuple[str, ...] = ()
    """Those it was built with."""
    kv_capacity: int | None = None
    """Tokens it made room for."""
    token_counts: str | None = None
    """How it counts tokens, where it only estimates them."""
    options_used: Mapping[str, Option] = field(default_factory=dict)
    """Values of launch options that are in use, by the engine's own word."""
    weights_mapped_b: float | None = None
    """Bytes of the model's file that stayed resident in RAM."""
    base_rss_b: float | None = None
    """Bytes resident before it loaded the model."""
    affinity: tuple[str, ...] = ()
    """Processors its threads may run on, such as ``0-3,8``."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> EngineFacts:
        return Fields(document).into(cls)


@dataclass(frozen=True)
class ModelFacts:
    """A model: its file, and what the header says."""

    name: str | None = None
    sha256: str | None = None
    size_b: float | None = None
    format: str | None = None
    quantization: str | None = None
    architecture: str | None = None
    layers: int | None = None
    context_length: int | None = None
    vocabulary: int | None = None
    embedding: int | None = None
    """Length of an embedding."""
    parameters: float | None = None
    weights_bytes: float | None = None
    weights_read_bytes: float | None = None
    """Bytes of the weights that are read for each token."""
    kv_bytes_per_token: float | None = None
    """At F16 for GGUF files, else in the type that the model computes in."""
    experts: int | None = None
    experts_used: int | None = None
    recurrent: bool | None = None
    sliding_window: int | None = None
    tokenizer: str | None = None
    tokenizer_pre: str | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    add_bos: bool | None = None
    add_eos: bool | None = None
    chat_template: bool | None = None
    """Whether there is one."""
    tensor_types: Mapping[str, float] = field(default_factory=dict)
    """Bytes of the weights by their type."""
    title: str | None = None
    license: str | None = None
    id: str | None = None
    """By which MLC-LLM knows it."""
    caches: tuple[str, ...] = ()
    """MLC-LLM's lists of weights that lie in its folder."""
    estimate: Mapping[str, float] = field(default_factory=dict)
    """Memory it was estimated to need: ``weights_b``, ``kv_b``, ``compute_b``, ``total_b``."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> ModelFacts:
        return Fields(document).into(cls)


@dataclass(frozen=True)
class Facts:
    """Everything that is known of the parts of a trial."""

    device: DeviceFacts = DeviceFacts()
    engine: EngineFacts = EngineFacts()
    model: ModelFacts = ModelFacts()
    rpc: tuple[Mapping[str, object], ...] = ()
    """The other devices that hold parts of the model."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> Facts:
        """From the flat objects of a JSON document; whatever it holds, nothing is lost and nothing raised."""
        fields = Fields(document)
        return cls(
            device=DeviceFacts.of(fields.mapping("device")),
            engine=EngineFacts.of(fields.mapping("engine")),
            model=ModelFacts.of(fields.mapping("model")),
            rpc=fields.objects("rpc"),
            extra=fields.rest,
        )

    def document(self) -> dict[str, object]:
        """The flat objects of a JSON document; what isn't known is left out."""
        parts = {"device": flat(self.device), "model": flat(self.model), "engine": flat(self.engine)}
        known = {name: document for name, document in parts.items() if document}
        return {**known, **({"rpc": [dict(part) for part in self.rpc]} if self.rpc else {}), **self.extra}


def merged(below: Part, above: Part) -> Part:
    """Facts of one part, those of ``above`` where both know."""
    return Fields({**flat(below), **flat(above)}).into(type(below))
