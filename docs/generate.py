"""Write the documents that come from the code: `python docs/generate.py`. A test compares them."""

from __future__ import annotations

import json
from pathlib import Path

from edgebench import engine_options, schemas
from edgebench.judging import doubts, metrics
from edgebench.store import records

DOCUMENTS = {
    "glossary.md": metrics.glossary,
    "doubts.md": doubts.listing,
    "launch-options.md": engine_options.listing,
    "schemas/device.json": lambda: schemas.to_text(schemas.device()),
    "schemas/model.json": lambda: schemas.to_text(schemas.model()),
    "schemas/records.json": lambda: json.dumps(records.schema(), indent=2) + "\n",
}

if __name__ == "__main__":
    for name, text in DOCUMENTS.items():
        (Path(__file__).parent / name).write_text(text(), "utf-8")
