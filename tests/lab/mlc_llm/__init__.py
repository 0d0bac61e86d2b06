"""A stand-in for MLC-LLM's Python package that keeps to its protocol, and to nothing else.

It takes ``mlc_llm serve``'s real argv (an unknown flag ends it), starts in the real order, and
answers in the real forms (mlc-llm 79d603f, July 2026; what a build of it said is in test_mlc.py).
What it "generates" is no model's, and its times are sleeps: its version says ``test-double``, and
no figure of it is a measurement. ``MLC_DOUBLE`` names one thing that goes wrong.
"""
