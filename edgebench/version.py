"""The version of edgebench."""

__version__ = "0.1.0"
