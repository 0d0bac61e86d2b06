"""Facts of device, engine and model in a record: fields that edgebench reads are typed, others are kept in ``extra``.

In JSON each is a flat object, as reported by devices, engines and model headers. A value without a
field here, or of another type than its field, is in ``extra`` under its own name.
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
    """CPUs of one type."""

    cpus: tuple[int, ...] = ()
    max_hz: int | None = None
    threads: int | None = None
    """Number of CPUs, if the system does not number them."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, as reported by its driver."""

    name: str | None = None
    driver: str | None = None
    """Version of the driver."""
    memory_b: int | None = None
    cores: int | None = None


@dataclass(frozen=True)
class DeviceFacts:
    """A device, as reported by its operating system."""

    cpu: str | None = None
    model: str | None = None
    os: str | None = None
    kernel: str | None = None
    build: str | None = None
    """Build of the operating system."""
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
    """Fastest first if the system does not number its CPUs."""
    gpus: tuple[Gpu, ...] = ()
    boot: str | None = None
    """Boot ID: the same for all profiles of one machine until it reboots."""
    hypervisor: str | None = None
    governor: str | None = None
    """Frequency governor of the first CPU."""
    power_source: str | None = None
    """``mains`` or ``battery``."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Query → the reason why it has no result."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: object) -> DeviceFacts:
        return Fields(document).into(cls)


@dataclass(frozen=True)
class EngineFacts:
    """An engine, as reported by its program and by its log."""

    name: str | None = None
    build: str | None = None
    path: str | None = None
    """Path of its program on the device."""
    sha256: str | None = None
    """Checksum of its program."""
    backend: str | None = None
    """The backend in use, as reported by the engine: ``cpu``, ``cuda``, ``metal``, ``opencl``, ``vulkan`` …"""
    layers_offloaded: int | None = None
    layers: int | None = None
    buffers: Mapping[str, float] = field(default_factory=dict)
    """``{"CPU model": bytes, "CPU KV": bytes, …}``"""
    instruction_sets: tuple[str, ...] = ()
    """Instruction sets it was compiled for."""
    kv_capacity: int | None = None
    """Capacity of the KV cache, tokens."""
    token_counts: str | None = None
    """How it counts tokens, if the counts are estimates."""
    options_used: Mapping[str, Option] = field(default_factory=dict)
    """Values of launch options in use, as reported by the engine."""
    weights_mapped_b: float | None = None
    """Bytes of the model's file that stayed resident in RAM."""
    base_rss_b: float | None = None
    """Resident bytes before the model was loaded."""
    affinity: tuple[str, ...] = ()
    """CPUs its threads may run on, for example ``0-3,8``."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: object) -> EngineFacts:
        return Fields(document).into(cls)


@dataclass(frozen=True)
class ModelFacts:
    """A model: its file and its header."""

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
    """Embedding length."""
    parameters: float | None = None
    weights_bytes: float | None = None
    weights_read_bytes: float | None = None
    """Bytes of the weights that are read for each token."""
    kv_bytes_per_token: float | None = None
    """At F16 for GGUF files, else in the model's compute type."""
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
    """Whether the file has a chat template."""
    tensor_types: Mapping[str, float] = field(default_factory=dict)
    """Type → bytes of the weights."""
    title: str | None = None
    license: str | None = None
    id: str | None = None
    """Model ID of MLC-LLM."""
    caches: tuple[str, ...] = ()
    """MLC-LLM weight indexes in its folder."""
    estimate: Mapping[str, float] = field(default_factory=dict)
    """Memory estimate: ``weights_b``, ``kv_b``, ``compute_b``, ``total_b``."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: object) -> ModelFacts:
        return Fields(document).into(cls)


@dataclass(frozen=True)
class Facts:
    """Facts of device, engine and model of a trial."""

    device: DeviceFacts = DeviceFacts()
    engine: EngineFacts = EngineFacts()
    model: ModelFacts = ModelFacts()
    rpc: tuple[Mapping[str, object], ...] = ()
    """The other devices that hold parts of the model."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: object) -> Facts:
        """From the flat objects of a JSON document. Nothing is lost, whatever it contains; never raises."""
        fields = Fields(document)
        return cls(
            device=DeviceFacts.from_document(fields.mapping("device")),
            engine=EngineFacts.from_document(fields.mapping("engine")),
            model=ModelFacts.from_document(fields.mapping("model")),
            rpc=fields.objects("rpc"),
            extra=fields.rest,
        )

    def document(self) -> dict[str, object]:
        """The flat objects of a JSON document, without absent values."""
        parts = {"device": flat(self.device), "model": flat(self.model), "engine": flat(self.engine)}
        parts_known = {name: document for name, document in parts.items() if document}
        return {**parts_known, **({"rpc": [dict(part) for part in self.rpc]} if self.rpc else {}), **self.extra}


def merged(below: Part, above: Part) -> Part:
    """Facts of one part; those of ``above`` take precedence."""
    return Fields({**flat(below), **flat(above)}).into(type(below))
