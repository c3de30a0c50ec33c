"""One private step: `dp_sgd` against Opacus and against a plain step: `python benchmarks/speed/private_step.py [ROUNDS] [THREADS]`.

The models and batches of loop.py (6 numbers, 8 categories, 256 rows), dropout off. Opacus gets the same layers in one plain module, a fixed batch, and
every mode of it that takes the model; the best one is what counts. A step is gradients clipped row by row, noise, clipping's sum and AdamW. Needs opacus.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch
from loop import ROWS, WIDE, Clock, table
from pairs import interleave, machine, now, report
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from modelwright import find
from modelwright.data.dataset import TABLE
from modelwright.forms import Tabular
from modelwright.learn import loop

STEPS, MODES = 12, ("hooks", "functorch", "ew", "ghost")
MODELS = {
    "plain numbers": {"mlp": {"bins": 0, "dropout": 0.0}},
    "piecewise-linear numbers (the default)": {"mlp": {"dropout": 0.0}},
}


class Net(nn.Module):
    """The layers of ours as one function of tensors."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(Tabular(numbers, torch.ones_like(numbers, dtype=torch.bool), codes)).pooled())


def timed(step: Callable[[], None]) -> Callable[[], np.ndarray]:
    """Milliseconds a step."""

    def run() -> np.ndarray:
        step()
        began = now()
        for _ in range(STEPS):
            step()
        return (now() - began) / STEPS * 1e3

    return run


def ours(encoder: dict, private: bool) -> Callable[[], None]:
    s = table(encoder, Clock())
    if private:
        s.strategies = [find.make("strategies", {"dp_sgd": {"epsilon": 3.0, "seed": 0}})]
    parts = loop.assemble(s)
    batch = s.stream.data.batch(np.arange(WIDE))
    parts.learner.train()
    return lambda: float(loop.step(s, parts, batch, "model").loss)


def opacus(encoder: dict, mode: str) -> Callable[[], None]:
    from opacus import PrivacyEngine

    model, data = (s := table(encoder, Clock())).model, s.stream.data
    ((_, layers),) = model.encoders.items()
    net, criterion = Net(layers, model.heads["label"].linear).train(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    numbers, codes = (torch.from_numpy(data.inputs[TABLE][k]) for k in ("numbers", "codes"))
    labels = torch.from_numpy(data.targets["label"]["values"])
    loader = DataLoader(TensorDataset(numbers, codes, labels), WIDE)
    made = PrivacyEngine().make_private(
        module=net, optimizer=optimizer, data_loader=loader, criterion=criterion, noise_multiplier=1.0, max_grad_norm=1.0, poisson_sampling=False,
        grad_sample_mode=mode,
    )  # fmt: skip
    net, optimizer = made[0], made[1]
    criterion = made[2] if mode == "ghost" else criterion
    x, y = (numbers[:WIDE], codes[:WIDE]), labels[:WIDE]

    def step() -> None:
        optimizer.zero_grad()
        loss = criterion(net(*x), y)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def main(rounds: int = 9, threads: int = 1) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    for name, encoder in MODELS.items():
        print(f"private step, mlp with {name}, {ROWS} rows:", machine("opacus", threads=threads))
        contenders = {"dp_sgd": timed(ours(encoder, True)), "plain": timed(ours(encoder, False))}
        for mode in MODES:
            try:
                step = opacus(encoder, mode)
                step()
            except Exception as e:  # noqa: BLE001 - what Opacus cannot do is part of the answer
                print(f"  Opacus {mode} cannot: {type(e).__name__}: {str(e).splitlines()[0][:100] if str(e) else ''}")
                continue
            contenders[f"Opacus {mode}"] = timed(step)
        aims = {n: "aim 4" if n == "plain" else "aim 1" for n in contenders if n != "dp_sgd"}
        report(interleave(contenders, rounds), "dp_sgd", aims, "ms a step")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
