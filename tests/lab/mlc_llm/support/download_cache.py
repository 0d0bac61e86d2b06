"""Which list of weights this version reads."""

CACHE = "tensor-cache.json"
