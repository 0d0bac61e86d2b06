"""The script that draws the page's figures: Vega, Vega-Lite and Vega-Embed, bundled by vl-convert."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import Any


@cache
def library() -> str:
    """One self-contained script, cached because vl-convert takes seconds to bundle it."""
    import vl_convert
    from platformdirs import user_cache_path

    cached = user_cache_path("edgebench") / "views" / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return cached.read_text("utf-8")
    bundle: Any = vl_convert.javascript_bundle  # in the type stub, the optional snippet is required
    text = str(bundle())
    # Without write access it is bundled each time.
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_name(f".{cached.name}.{os.getpid()}")
        partial.write_text(text, "utf-8")
        partial.replace(cached)
    return text
