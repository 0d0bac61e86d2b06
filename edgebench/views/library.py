"""The script that draws the page's figures: Vega, Vega-Lite and Vega-Embed, as vl-convert brings them."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import Any


@cache
def library() -> str:
    """One script that needs no network. vl-convert takes seconds to put it together: it is kept."""
    import vl_convert
    from platformdirs import user_cache_path

    cached = user_cache_path("edgebench") / "views" / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return cached.read_text("utf-8")
    bundle: Any = vl_convert.javascript_bundle  # its stub forgets that the snippet is optional
    text = str(bundle())
    # Where nothing may be written it is made anew each time.
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_name(f".{cached.name}.{os.getpid()}")
        partial.write_text(text, "utf-8")
        partial.replace(cached)
    return text
