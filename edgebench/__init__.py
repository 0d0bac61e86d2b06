"""edgebench measures how large language models run on the devices people own."""

__version__ = "0.1.0"
