"""What the engine's version is read from."""

__version__ = "0.20.0+test-double"
