"""What is known of device, engine and model in a record: typed where it is read, kept as it is elsewhere.

In JSON each is one flat object, as devices, engines and model headers give it: a value that has no
field here, or isn't of its field's type, is in ``extra`` and keeps its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from edgebench.core.values import Option

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class DeviceFacts:
    """A device, by its own system."""

    cpu: str | None = None
    model: str | None = None
    os: str | None = None
    kernel: str | None = None
    driver: str | None = None
    """Version of the GPU's driver."""
    architecture: str | None = None
    cores: int | None = None
    threads: int | None = None
    ram_b: float | None = None
    instruction_sets: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> DeviceFacts:
        values = _Values(document)
        return cls(
            cpu=values.take("cpu", str),
            model=values.take("model", str),
            os=values.take("os", str),
            kernel=values.take("kernel", str),
            driver=values.take("driver", str),
            architecture=values.take("architecture", str),
            cores=values.take("cores", int),
            threads=values.take("threads", int),
            ram_b=values.number("ram_b"),
            instruction_sets=values.names("instruction_sets"),
            extra=values.rest,
        )


@dataclass(frozen=True)
class EngineFacts:
    """An engine: what its program says of itself, and what it said while it loaded."""

    name: str | None = None
    build: str | None = None
    backend: str | None = None
    """The backend that computes, by the engine's own word."""
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
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> EngineFacts:
        values = _Values(document)
        return cls(
            name=values.take("name", str),
            build=values.take("build", str),
            backend=values.take("backend", str),
            layers_offloaded=values.take("layers_offloaded", int),
            layers=values.take("layers", int),
            buffers=values.numbers("buffers"),
            instruction_sets=values.names("instruction_sets"),
            kv_capacity=values.take("kv_capacity", int),
            token_counts=values.take("token_counts", str),
            options_used=values.scalars("options_used"),
            weights_mapped_b=values.number("weights_mapped_b"),
            extra=values.rest,
        )


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
    parameters: float | None = None
    weights_bytes: float | None = None
    weights_read_bytes: float | None = None
    """Bytes of the weights that are read for each token."""
    kv_bytes_per_token: float | None = None
    experts: int | None = None
    sliding_window: int | None = None
    tokenizer: str | None = None
    estimate: Mapping[str, float] = field(default_factory=dict)
    """Memory it was estimated to need: ``weights_b``, ``kv_b``, ``compute_b``, ``total_b``."""
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, document: object) -> ModelFacts:
        values = _Values(document)
        return cls(
            name=values.take("name", str),
            sha256=values.take("sha256", str),
            size_b=values.number("size_b"),
            format=values.take("format", str),
            quantization=values.take("quantization", str),
            architecture=values.take("architecture", str),
            layers=values.take("layers", int),
            context_length=values.take("context_length", int),
            vocabulary=values.take("vocabulary", int),
            embedding=values.take("embedding", int),
            parameters=values.number("parameters"),
            weights_bytes=values.number("weights_bytes"),
            weights_read_bytes=values.number("weights_read_bytes"),
            kv_bytes_per_token=values.number("kv_bytes_per_token"),
            experts=values.take("experts", int),
            sliding_window=values.take("sliding_window", int),
            tokenizer=values.take("tokenizer", str),
            estimate=values.numbers("estimate"),
            extra=values.rest,
        )


_Part: TypeAlias = DeviceFacts | EngineFacts | ModelFacts


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
        values = _Values(document)
        return cls(
            device=DeviceFacts.of(values.mapping("device")),
            engine=EngineFacts.of(values.mapping("engine")),
            model=ModelFacts.of(values.mapping("model")),
            rpc=values.objects("rpc"),
            extra=values.rest,
        )

    def document(self) -> dict[str, object]:
        """The flat objects of a JSON document; what isn't known is left out."""
        parts: dict[str, _Part] = {"device": self.device, "model": self.model, "engine": self.engine}
        flat = {name: document for name, part in parts.items() if (document := _flat(part))}
        return {**flat, **({"rpc": [dict(part) for part in self.rpc]} if self.rpc else {}), **self.extra}


def _flat(part: _Part) -> dict[str, object]:
    known = {name: value for name, value in vars(part).items() if name != "extra" and value not in (None, (), {})}
    return {**known, **part.extra}


class _Values:
    """Values of a JSON object, taken one after the other where they have the type that is expected."""

    def __init__(self, document: object) -> None:
        self.rest: dict[str, object] = dict(document) if isinstance(document, Mapping) else {}
        """Those that nobody took."""

    def take(self, name: str, kind: type[Kind]) -> Kind | None:
        value = self.rest.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            return None
        del self.rest[name]
        return value

    def number(self, name: str) -> float | None:
        whole = self.take(name, int)
        return self.take(name, float) if whole is None else whole

    def names(self, name: str) -> tuple[str, ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) for one in value):
            return ()
        del self.rest[name]
        return tuple(value)

    def numbers(self, name: str) -> dict[str, float]:
        value = self.rest.get(name)
        if not isinstance(value, Mapping) or not value or not all(type(one) in (int, float) for one in value.values()):
            return {}
        del self.rest[name]
        return dict(value)

    def scalars(self, name: str) -> dict[str, Option]:
        value = self.rest.get(name)
        if not isinstance(value, Mapping) or not all(
            isinstance(one, bool | int | float | str) for one in value.values()
        ):
            return {}
        del self.rest[name]
        return dict(value)

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self.rest.get(name)
        if not isinstance(value, Mapping) or not value:
            return {}
        del self.rest[name]
        return value

    def objects(self, name: str) -> tuple[Mapping[str, object], ...]:
        value = self.rest.get(name)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(one, Mapping) for one in value):
            return ()
        del self.rest[name]
        return tuple(value)
