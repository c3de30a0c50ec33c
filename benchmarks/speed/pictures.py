"""Pictures a second of a two-layer CNN, 32x32 in colour, batches of 64: `python benchmarks/speed/pictures.py [ROUNDS] [THREADS]`.

Ours (data path, augmentation and `loop.fit`, bf16) against the loop that tutorials teach (a picture at a time through torchvision's transforms and a
DataLoader, fp32), Lightning (barebones, bf16-mixed) and the Hugging Face Trainer (bf16), both with channels-last and the fused optimizer, and each with two
data paths: the one that their own guides give, at its best (torchvision's v2 transforms on tensors, a picture at a time, in two workers that stay), and
"given ours": whole batches through our augmentation, which leaves nothing but the loops to compare. A round is an epoch of 1,024 pictures, timed from the
end of the third step to the end of the last, so that nobody's start counts. Needs lightning and accelerate.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable

import numpy as np
import torch
from pairs import interleave, machine, now, report
from PIL import Image
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from torchvision import transforms
from torchvision.transforms import v2

from modelwright import find
from modelwright.artifact import assemble_model
from modelwright.data.dataset import Dataset
from modelwright.data.schema import Schema
from modelwright.data.streams import Rows
from modelwright.learn import loop
from modelwright.settings import Settings
from modelwright.strategy import Context

N, BATCH, WARM = 1024, 64, 3
STEPS = N // BATCH
rng = np.random.default_rng(0)
PICTURES, LABELS = rng.integers(0, 256, (N, 3, 32, 32), np.uint8), rng.integers(0, 10, N)
KIND, LABEL = find.make("kinds", {"picture": {"augment": ["translate", "flip"]}}), find.make("kinds", "category")
KIND.size_, KIND.channels_, LABEL.labels_ = [32, 32], 3, [str(i) for i in range(10)]


class Clock:
    """Microseconds for a picture, from `tick`s at the end of every step."""

    def __init__(self):
        self.ticks: list[np.ndarray] = []

    def tick(self, *_) -> None:
        self.ticks.append(now())

    def micro(self) -> np.ndarray:
        return (self.ticks[-1] - self.ticks[WARM - 1]) / (len(self.ticks) - WARM) / BATCH * 1e6


def stage(steps: int, clock: Clock, precision: str = "bf16") -> loop.Stage:
    """What a task file of a two-layer CNN becomes."""
    schema = Schema({"image": KIND}, {"label": LABEL})
    torch.manual_seed(0)
    parts = {"encoders": {"image": {"cnn": {"depth": 2}}}, "fusion": "concat", "heads": {"label": "classes"}, "decoders": {}}
    known = np.ones(N, bool)
    data = Dataset(N, {"image": {"values": PICTURES, "known": known}}, {"label": {"values": LABELS, "known": known}}, {"image": KIND}, {"label": LABEL})
    s = Settings(device="cpu", precision=precision, lr=1e-3, weight_decay=0.05, batch_size=BATCH, threads=torch.get_num_threads(), channels_last=True)
    context = Context(schema, N, BATCH, steps, 0, data)
    model = assemble_model(schema, parts)
    return loop.Stage("speed", model, find.make("objectives", "supervised"), [], Rows(data, BATCH, 0), context, s, steps, log=clock.tick)


def ours() -> np.ndarray:
    clock = Clock()
    loop.fit(stage(STEPS, clock))
    return clock.micro()


class Net(nn.Module):
    """The same layers, plainly."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.GroupNorm(2, 32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.GroupNorm(4, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None):
        """Logits (B, 10); with labels the loss too, as the Hugging Face Trainer wants it."""
        h = self.layers(x).flatten(2).transpose(1, 2)
        out = self.head((h.amax(1) + h.mean(1)) / 2)
        return out if labels is None else {"loss": nn.functional.cross_entropy(out.float(), labels), "logits": out}


class OneByOne(torch.utils.data.Dataset):
    """A picture at a time, as tutorials have it."""

    transform = transforms.Compose([
        transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)
    ])  # fmt: skip

    def __init__(self):
        self.pictures = PICTURES.transpose(0, 2, 3, 1)

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.pictures[i])), int(LABELS[i])


def tutorial(workers: int) -> Callable[[], np.ndarray]:
    loader = DataLoader(OneByOne(), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    net = Net()
    optimizer, loss_of = torch.optim.AdamW(net.parameters(), lr=1e-3), nn.CrossEntropyLoss()

    def epoch() -> np.ndarray:
        clock, running = Clock(), 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            optimizer.step()
            running += loss.item()
            clock.tick()
        return clock.micro()

    return epoch


class Whole(torch.utils.data.Dataset):
    """A batch at a time: `dataset[[3, 1, 2]]`."""

    rng = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return N

    def __getitem__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        x = torch.from_numpy(PICTURES[rows]).float().div_(255)
        return {"x": (KIND.augment(x, self.rng)[0] - 0.5) / 0.25, "labels": torch.from_numpy(LABELS[rows])}

    __getitems__ = __getitem__


class Each(torch.utils.data.Dataset):
    """A picture at a time, at its best: v2 on tensors."""

    transform = v2.Compose([
        v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)
    ])  # fmt: skip

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"x": self.transform(torch.from_numpy(PICTURES[i])), "labels": torch.tensor(LABELS[i])}


def lightning(loader: DataLoader) -> np.ndarray:
    import lightning as L

    clock = Clock()

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net().to(memory_format=torch.channels_last)

        def training_step(self, batch, _):
            return self.net(batch["x"].contiguous(memory_format=torch.channels_last), batch["labels"])["loss"]

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-3, fused=True)

        def on_train_batch_end(self, *_):
            clock.tick()

    L.Trainer(max_epochs=1, accelerator="cpu", devices=1, precision="bf16-mixed", barebones=True).fit(Module(), loader)
    return clock.micro()


def huggingface(data: torch.utils.data.Dataset, **loading) -> np.ndarray:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    clock = Clock()

    class Ticks(TrainerCallback):
        def on_step_end(self, *_, **__):
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=1, per_device_train_batch_size=BATCH, bf16=True, use_cpu=True, optim="adamw_torch_fused", learning_rate=1e-3,
            logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False,
            dataloader_num_workers=loading.get("workers", 0), dataloader_persistent_workers="workers" in loading,
        )  # fmt: skip
        net = Net().to(memory_format=torch.channels_last)
        collate = None if "workers" in loading else lambda batch: batch
        trainer = Trainer(net, arguments, train_dataset=data, data_collator=collate, callbacks=[Ticks()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.micro()


def main(rounds: int = 9, threads: int = 1) -> None:
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    print("pictures:", machine("torchvision", "lightning", "transformers", "accelerate", threads=threads))
    apart = DataLoader(Each(), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    whole = DataLoader(Whole(), batch_size=None, sampler=BatchSampler(RandomSampler(range(N)), BATCH, False))
    contenders = {
        "ours": ours, "tutorial": tutorial(0), "tutorial, 2 workers": tutorial(2),
        "Lightning": lambda: lightning(apart), "Hugging Face": lambda: huggingface(Each(), workers=2),
        "Lightning, given ours": lambda: lightning(whole), "Hugging Face, given ours": lambda: huggingface(Whole()),
    }  # fmt: skip
    found = interleave(contenders, rounds)
    aims = {name: "aim 0.2" if "tutorial" in name else "aim 0.67" for name in contenders if name != "ours"}
    report(found, "ours", aims, "microseconds a picture")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
