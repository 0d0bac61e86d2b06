"""A llama-server made of llama-cpp-python, run by the device's own Python (3.9 or later).

It needs nothing but the standard library and ``llama_cpp`` (whose own requirement numpy holds the
logits), and travels as one file: ``edgebench.engines.llama_cpp_python.archive`` zips this package.
It speaks llama-server's HTTP dialect, and adds what that server cannot do:

* any number of draft tokens per request: ``speculative.n_max`` (0 is the target alone), with the
  draft model or without one (``speculative.type``: ``draft-simple`` or ``prompt-lookup``), ending
  early by ``speculative.p_min``; acceptance by position in the last chunk's ``speculative``;
* ``kv_cache: false``: the whole text evaluated anew for every token;
* ``n_beams``: beam search;
* ``POST /edgebench/costs``: seconds for verifying 1…17 tokens at once, and for one draft step;
* ``POST /edgebench/logits``: the target's logits at the last places of a text;
* ``POST /edgebench/parting``: where two greedy texts part, and whether rounding explains it.

``sampling``, ``speculation`` and ``beams`` are pure: they know no engine.
"""
