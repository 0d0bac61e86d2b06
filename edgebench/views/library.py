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

    kept = user_cache_path("edgebench") / "views" / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text("utf-8")
    bundle: Any = vl_convert.javascript_bundle  # its stub forgets that the snippet is optional
    text = str(bundle())
    # Where nothing may be written it is made anew each time.
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_name(f".{kept.name}.{os.getpid()}")
        unfinished.write_text(text, "utf-8")
        unfinished.replace(kept)
    return text
