"""What the loop costs: `loop.fit` against the leanest loop by hand, same layers and kernels: `python benchmarks/speed/loop.py [ROUNDS] [THREADS]`.

By hand there is no Model, Batch, Loss, Stream or Strategy: rows gathered from tensors, the encoder's and head's layers, cross-entropy, backward,
clipping, torch's fused AdamW and the same fall of the rate. On a table (6 numbers, 8 categories, batches of 256, fp32) the mlp at its defaults and a
small one (two layers of 64 on plain numbers), on pictures (bf16) the CNN of pictures.py.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from pairs import interleave, machine, now, report
from pictures import BATCH, KIND, LABELS, PICTURES, Clock, stage
from torch.nn import functional as F

from modelwright import find
from modelwright.artifact import assemble_model
from modelwright.data.dataset import TABLE, Dataset
from modelwright.data.schema import Schema
from modelwright.data.streams import Rows
from modelwright.forms import Tabular
from modelwright.learn import loop, optim
from modelwright.settings import Settings
from modelwright.strategy import Context

ROWS, WIDE, STEPS, WARM = 8192, 256, 128, 10


DEFAULT, SMALL = {"mlp": {}}, {"mlp": {"width": 64, "depth": 2, "bins": 0}}


def table(encoder: dict, clock: Clock) -> loop.Stage:
    """6 numbers, 8 categories of 12, two classes."""
    rng = np.random.default_rng(0)
    inputs = {f"x{i}": find.make("kinds", "number") for i in range(6)} | {f"c{i}": find.make("kinds", "category") for i in range(8)}
    for name, kind in inputs.items():
        if name[0] == "x":
            kind.log_, kind.mean_, kind.sd_, kind.bins_ = False, 0.0, 1.0, [np.linspace(-2, 2, 65).tolist()]
        else:
            kind.labels_ = [str(i) for i in range(12)]
    label = find.make("kinds", "category")
    label.labels_ = ["no", "yes"]
    schema = Schema(inputs, {"label": label})
    torch.manual_seed(0)
    model = assemble_model(schema, {"encoders": {TABLE: encoder}, "fusion": "concat", "heads": {"label": "classes"}, "decoders": {}})
    known = np.ones(ROWS, bool)
    numbers, codes = rng.normal(size=(ROWS, 6)).astype(np.float32), rng.integers(1, 13, (ROWS, 8))
    data = Dataset(ROWS, {TABLE: {"numbers": numbers, "codes": codes}}, {"label": {"values": rng.integers(0, 2, ROWS), "known": known}}, {}, {"label": label})
    s = Settings(device="cpu", precision="fp32", lr=1e-3, weight_decay=0.05, batch_size=WIDE, threads=torch.get_num_threads(), channels_last=False)
    context = Context(schema, ROWS, WIDE, STEPS, 0, data)
    return loop.Stage("speed", model, find.make("objectives", "supervised"), [], Rows(data, WIDE, 0), context, s, STEPS, log=clock.tick)


def fit(s: loop.Stage, clock: Clock) -> np.ndarray:
    """Milliseconds a step."""
    loop.fit(s)
    return (clock.ticks[-1] - clock.ticks[WARM - 1]) / (len(clock.ticks) - WARM) * 1e3


def by_hand(s: loop.Stage, batches, bf16: bool) -> np.ndarray:
    """The same steps on the same layers; batches() yields (what the encoder reads, labels)."""
    (encoder,), head = (e for _, e in s.model.encoders.items()), s.model.heads["label"].linear
    if s.settings.channels_last:
        encoder.to(memory_format=torch.channels_last)
    encoder.train()
    parameters = [*encoder.parameters(), *head.parameters()]
    matrices, rest = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer, ticks = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True), []
    while len(ticks) < s.steps:
        for x, y in batches():
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * optim.factor("cosine", 0.1, len(ticks) / s.steps)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out = head(encoder(x).pooled())
            loss = F.cross_entropy(out.float(), y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            ticks.append(now())
            if len(ticks) == s.steps:
                break
    return (ticks[-1] - ticks[WARM - 1]) / (len(ticks) - WARM) * 1e3


def table_by_hand(encoder: dict) -> np.ndarray:
    s = table(encoder, Clock())
    stored = s.stream.data.inputs[TABLE]
    numbers, codes, labels = (torch.from_numpy(v) for v in (stored["numbers"], stored["codes"], s.stream.data.targets["label"]["values"]))
    there = torch.ones(WIDE, 6, dtype=torch.bool)

    def batches():
        for rows in torch.randperm(ROWS).split(WIDE):
            yield Tabular(numbers[rows], there, codes[rows]), labels[rows]

    return by_hand(s, batches, False)


def pictures_by_hand() -> np.ndarray:
    pictures, labels, rng = torch.from_numpy(PICTURES), torch.from_numpy(LABELS), torch.Generator().manual_seed(0)

    def batches():
        for rows in torch.randperm(len(labels)).split(BATCH):
            yield KIND.augment(pictures[rows].float().div_(255), rng)[0], labels[rows]

    return by_hand(stage(32, Clock()), batches, True)


def ours(make) -> np.ndarray:
    clock = Clock()
    return fit(make(clock), clock)


def main(rounds: int = 9, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    pairs = {}
    for name, encoder in (("mlp", DEFAULT), ("small mlp", SMALL)):
        pairs[f"table, {name}"] = (lambda e=encoder: ours(lambda clock: table(e, clock)), lambda e=encoder: table_by_hand(e))
    pairs["pictures, cnn"] = (lambda: ours(lambda clock: stage(32, clock)), pictures_by_hand)
    for name, (a, b) in pairs.items():
        print(f"loop, {name}:", machine(threads=threads))
        report(interleave({"ours": a, "by hand": b}, rounds), "ours", {"by hand": "aim 1.05"}, "ms a step")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
