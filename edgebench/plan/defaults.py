"""Defaults of a run: this machine, a small model from the package registry, the bundled server."""

DEVICE = "local"
MODEL = "smollm2-135m-q4_1"
ENGINE = "llama.cpp"
SCENARIO = "throughput"
TARGET = "smollm2-135m-f16"
DRAFT = "smollm2-135m-q4_1"
