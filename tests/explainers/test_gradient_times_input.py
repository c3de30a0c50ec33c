"""What gradient times input misses: where a function is flat at the row, it says nothing."""

import torch

from modelwright import find


def test_a_saturated_function_has_no_slope():
    f = lambda x: 1 - torch.relu(1 - x)  # noqa: E731 - Sundararajan et al. 2017, section 2.1: 1 from x = 1 on
    x, base, one = torch.tensor([[2.0]]), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    said = {n: float(find.make("explainers", n).explain(f, x, one, base, torch.Generator())) for n in ("gradient_times_input", "integrated_gradients")}
    assert said["gradient_times_input"] == 0 and abs(said["integrated_gradients"] - 1) < 0.02
