"""``edgebench models``: list, inspect, fetch and verify models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from edgebench import modelfiles, profiles
from edgebench.cli import Group
from edgebench.cli.output import ProfileName, json_option, print_facts, print_json, print_table, transfer
from edgebench.core import ModelFile, flat
from edgebench.errors import ProfileError
from edgebench.modelfiles import ModelFormat, mlc
from edgebench.modelfiles.catalogue import SOURCES, Model
from edgebench.views.units import number, quantity

MODEL = ProfileName("models")

FORMS = (
    "The GGUF form ({gguf}) and the MLC form ({mlc}) are not equivalent: both are quantized from the same weights, but "
    "with different group sizes, scales and unquantized layers. Compare their quality before their speed."
)


@click.group(cls=Group)
def command() -> None:
    """Manage models.

    A model is the name of a profile, the path of a GGUF file, or the path of a folder of MLC-LLM weights.
    """


FORM = click.option(
    "--form",
    type=click.Choice(["gguf", "mlc"]),
    help="Model format: gguf (llama.cpp) or mlc (MLC-LLM).  [default: gguf if available]",
)


@command.command("list", short_help="List model profiles.")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List model profiles and the size of each cached model."""
    rows, errors = [], []
    for profile in profiles.names("models").values():
        try:
            model = modelfiles.load(str(profile))
            rows.append((model, {form: modelfiles.cached(model, form) for form in modelfiles.formats_of(model)}))
        except ProfileError as error:
            errors.append(error)
    if as_json:
        print_json({"models": [_summary(model, paths.get("gguf")) for model, paths in rows]})
    else:
        cells = [(model.name, _forms(model), _sizes(paths), model.description) for model, paths in rows]
        print_table(("MODEL", "FORMATS", "CACHED", "DESCRIPTION"), cells)
    for message in errors:
        click.echo(f"edgebench: {message}", err=True)
    ctx.exit(ProfileError.exit_code if errors else 0)


@command.command()
def schema() -> None:
    """Print the JSON Schema of model profiles."""
    from edgebench import schemas

    click.echo(schemas.to_text(schemas.model()), nl=False)


@command.command(short_help="Show a model's profile and header.")
@click.argument("model", type=MODEL)
@FORM
@json_option
def show(model: str, form: ModelFormat | None, as_json: bool) -> None:
    """Show a model's profile and, if it is cached, the contents of its header."""
    path = modelfiles.as_path(model)
    profile = None if path else modelfiles.load(model)
    file: ModelFile | None = None
    if path:
        file = modelfiles.open_file(path, form)
    elif profile and modelfiles.cached(profile, form):
        file = modelfiles.pull(profile, form)
    if as_json:
        summary = _summary(profile, file.path if file else None) if profile else {}
        print_json({"model": summary | (_file(file) if file else {})})
        return
    lines = _profile_lines(profile) if profile else {}
    print_facts(
        lines | (_file_lines(file) if file else {"cached": f"no; fetch it with: edgebench models pull {model}"})
    )
    if profile and profile.gguf and profile.mlc:
        click.echo()
        click.echo(FORMS.format(gguf=profile.gguf.quantization, mlc=profile.mlc.quantization))


@command.command(short_help="Download models into the cache.")
@click.argument("model", type=MODEL, nargs=-1, required=True)
@click.option("--accept-change", is_flag=True, help="Accept a file that differs from the one pinned on first download.")
@FORM
@json_option
def pull(model: tuple[str, ...], accept_change: bool, form: ModelFormat | None, as_json: bool) -> None:
    """Download models into the cache and verify their checksums and headers."""
    files = []
    for name in model:
        path = modelfiles.as_path(name)
        with transfer(f"reading {name}" if path else f"fetching {name}") as progress:
            if path:
                file = modelfiles.open_file(path, form, progress=progress)
            else:
                file = modelfiles.pull(modelfiles.load(name), form, progress=progress, accept_change=accept_change)
        files.append(file)
        if not as_json:
            click.echo(f"{file.name}  {quantity(file.size, 'B')}  sha256:{file.sha256}  {file.path}")
    if as_json:
        print_json({"models": [_file(file) for file in files]})


@command.command()
@click.argument("model", type=MODEL, nargs=-1)
@FORM
@json_option
def verify(model: tuple[str, ...], form: ModelFormat | None, as_json: bool) -> None:
    """Re-read model files and verify their checksums.  [default: all cached models]"""
    files = []
    for source, model_format in _to_verify(model, form):
        with transfer(f"reading {source if isinstance(source, Path) else source.name}") as progress:
            if isinstance(source, Path):
                file = modelfiles.open_file(source, model_format, recheck=True, progress=progress)
            else:
                file = modelfiles.verify(source, model_format, progress=progress)
        files.append(file)
        if not as_json:
            click.echo(f"{file.name}  ok  sha256:{file.sha256}")
    if as_json:
        print_json({"models": [_file(file) for file in files]})
    elif not files:
        click.echo("edgebench: no cached models to verify", err=True)


def _to_verify(names: tuple[str, ...], form: ModelFormat | None) -> list[tuple[Model | Path, ModelFormat | None]]:
    """The named models, or every format of every cached model."""
    if names:
        return [(modelfiles.as_path(name) or modelfiles.load(name), form) for name in names]
    candidates = [
        (model, one)
        for name in profiles.names("models")
        for model in [modelfiles.load(name)]
        for one in modelfiles.formats_of(model)
    ]
    return [(model, one) for model, one in candidates if form in (None, one) and modelfiles.cached(model, one)]


def _forms(model: Model) -> str:
    gguf = f"gguf {model.gguf.quantization}" if model.gguf else ""
    mlc = f"mlc {model.mlc.quantization}" if model.mlc else ""
    return ", ".join(filter(None, (gguf, mlc)))


def _sizes(paths: Mapping[ModelFormat, Path | None]) -> str:
    sizes = {form: _size(path) for form, path in paths.items() if path}
    return ", ".join(f"{form} {size}" for form, size in sizes.items()) if "mlc" in sizes else sizes.get("gguf", "-")


def _size(path: Path) -> str:
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    return quantity(sum(file.stat().st_size for file in files), "B")


def _summary(model: Model, path: Path | None) -> dict[str, object]:
    return {
        "name": model.name,
        "description": model.description,
        "license": model.license,
        "gguf": {"quantization": model.gguf.quantization, **_source(model)} if model.gguf else None,
        "mlc": vars(model.mlc) if model.mlc else None,
        "profile": str(model.profile),
        "path": str(path) if path else None,
    }


def _source(model: Model) -> dict[str, object]:
    """As in the profile: ``{"hub": {"repo": …}}``."""
    kind = next(name for name, form in SOURCES.items() if isinstance(model.source, form))
    return {kind: vars(model.source)}


def _file(file: ModelFile) -> dict[str, object]:
    fields = {"name": file.name, "path": str(file.path), "sha256": file.sha256, "size": file.size}
    return fields | {"quantization": file.quantization, "architecture": file.architecture, "facts": flat(file.facts)}


def _profile_lines(model: Model) -> dict[str, str]:
    source = ", ".join(f"{key} {value}" for key, value in vars(model.source).items()) if model.source else ""
    lines = {
        "name": model.name,
        "description": model.description,
        "license": model.license,
        "formats": _forms(model),
        "source": f"{type(model.source).__name__.lower()}: {source}" if source else "",
        "mlc source": (model.mlc.hub or model.mlc.path or "") if model.mlc else "",
        "profile": str(model.profile),
    }
    return {name: text for name, text in lines.items() if text}


def _file_lines(file: ModelFile) -> dict[str, str]:
    facts = file.facts
    lines = {
        "file": f"{file.path} ({quantity(file.size, 'B')})",
        "sha256": file.sha256,
        "architecture": file.architecture,
        "quantization": file.quantization + (f" ({_types(facts.tensor_types)})" if facts.tensor_types else ""),
        "parameters": number(facts.parameters) if facts.parameters else "",
        "weights": quantity(facts.weights_bytes, "B") if facts.weights_bytes else "",
        "weight index": ", ".join(f"{name} (MLC-LLM {mlc.INDEX_READERS[name]})" for name in facts.caches),
        "layers": str(facts.layers or ""),
        "context": f"{facts.context_length} tokens" if facts.context_length else "",
        "vocabulary": f"{facts.vocabulary} tokens ({facts.tokenizer or 'own'})" if facts.vocabulary else "",
        "KV cache": _cache(file),
        "memory": _memory(file),
        "chat template": "" if facts.chat_template is None else "yes" if facts.chat_template else "no",
    }
    return {name: text for name, text in lines.items() if text}


def _types(by_type: Mapping[str, float]) -> str:
    total = sum(by_type.values())
    return ", ".join(f"{kind} {quantity(size / total, 'ratio')}" for kind, size in by_type.items())


def _cache(file: ModelFile) -> str:
    per_token = file.facts.kv_bytes_per_token
    return (
        ""
        if per_token is None
        else f"{quantity(per_token, 'B')} per token"
        + (" at F16" if file.format == "gguf" else "")
        + (f"; less beyond a sliding window of {file.facts.sliding_window} tokens" if file.facts.sliding_window else "")
    )


def _memory(file: ModelFile) -> str:
    """Weights and KV cache: the parts known before a run."""
    per_token, context, weights = file.facts.kv_bytes_per_token, file.facts.context_length, file.facts.weights_bytes
    if per_token is None or context is None or weights is None:
        return ""
    needs = []
    for length in sorted({min(4096, context), context}):
        needs.append(f"{quantity(weights + per_token * length, 'B')} at {length} tokens")
    return f"{', '.join(needs)} (weights and KV cache, without the engine's own buffers)"
