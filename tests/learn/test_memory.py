"""A step's memory is there again for the next one, and does not grow."""

import resource
import sys

import pytest
import torch

from modelwright.learn import memory


def work(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        x = torch.ones(8, 1024, 1024)  # 32 MB: 8,192 pages
        y = x + 1
        z = (y * x).relu()
        del x, y, z
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_tensors_are_not_cleared_again_every_time():
    if not memory.keep():
        pytest.skip("no mallopt in this libc")
    work(20)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert work(20) < 20 * 4 * 8192 / 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < held + 100_000  # kB
