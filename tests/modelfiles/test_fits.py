"""What a model needs, what ran out, and what need not be tried after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench.core import ModelFacts, Round
from edgebench.device import pagecache
from edgebench.judging import memory_fit, stats
from edgebench.modelfiles import fits


def test_smollm2_as_llama_cpp_itself_says_it():
    """b11549 of the bundled server at ctx 4096: KV 94,371,840, compute 19,545,457, model 96,573,850 bytes."""
    model = ModelFacts(weights_bytes=96_576_768, kv_bytes_per_token=23_040, embedding=576)
    found = fits.estimate("llama.cpp", model, {"ctx": 4096})
    assert found.kv_b == 94_371_840
    assert found.compute_b == pytest.approx(19_545_457, rel=0.05)
    assert found.total_b == pytest.approx(96_573_850 + 94_371_840 + 19_545_457, rel=0.02)
    assert fits.facts(found)["total_b"] == found.total_b


def test_without_a_header_there_is_no_estimate():
    assert fits.estimate("llama.cpp", ModelFacts(), {"ctx": 4096}) is None


@pytest.mark.parametrize(
    ("line", "signal", "out"),
    [
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 107374182400", None, True),
        ("cudaMalloc failed: out of memory", None, True),
        ("ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory", None, True),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "SIGABRT", True),
        ("srv  update_slots: all slots are idle", "SIGKILL", True),
        ("error while loading shared libraries: libomp.so", None, False),
        ("illegal instruction", "SIGILL", False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_deaths(line, signal, out):
    assert memory_fit.ran_out_of_memory(["loading model", line], signal) is out


sizes = st.fixed_dictionaries(
    {"ctx": st.integers(1, 9), "batch": st.integers(1, 9), "gpu_layers": st.sampled_from([0, 10, "all"])}
)


@given(sizes, sizes)
def test_only_what_needs_at_least_as_much_must_fail_too(one, other):
    assert memory_fit.needs_as_much("llama.cpp", one, one)
    if memory_fit.needs_as_much("llama.cpp", one, other) and memory_fit.needs_as_much("llama.cpp", other, one):
        assert one == other
    smaller = {**one, "ctx": one["ctx"] - 1}
    assert not memory_fit.needs_as_much("llama.cpp", one, smaller)
    assert not memory_fit.needs_as_much("llama.cpp", one, {**one, "gpu_layers": 99})


def rounds(*values: float) -> list[Round]:
    return [Round(index, "", {"decode_tps": value}) for index, value in enumerate(values)]


def test_half_the_interval_as_a_share_of_the_median():
    assert stats.half_width(rounds(100.0)) == float("inf")
    assert stats.half_width([]) == float("inf")
    assert stats.half_width(rounds(*[100.0] * 5)) == 0
    assert stats.half_width(rounds(90, 100, 100, 110, 100, 95, 105)) < 0.15


SMAPS = """read
7f00c0000000-7f00c8700000 r--s 00000000 fe:00 1835 /models/a.gguf
Size:             138240 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:              138240 kB
Pss:               69120 kB
7f00c8700000-7f00c8800000 r--s 08700000 fe:00 1835 /models/a.gguf
Size:               1024 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                   8 kB
"""


def test_resident_bytes_of_a_mapped_file_are_added_up_and_unknown_is_no_zero() -> None:
    assert pagecache.parse_mapped(SMAPS) == 138248 * 1024
    assert pagecache.parse_mapped("read\n") == 0
    assert pagecache.parse_mapped("") is None
