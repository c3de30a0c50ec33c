"""How a stage learns: the dials a task file may turn. None means "decide from data and model"; the plan shows what was decided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, lt=1e12)]
Count = Annotated[int, Field(ge=1, lt=2**53)]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: Positive | None = None  # passes over the training split
    steps: Count | None = None  # updates, instead of epochs
    minutes: Positive | None = None  # of training: the plan measures a step and chooses the epochs; the first hundredth of them settles it
    batch_size: Count | None = None
    micro_batch: Count | None = None  # the most rows in one pass; larger batches accumulate, exactly
    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"  # muon: orthogonal steps of filters and hidden matrices, AdamW for the rest
    lr: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of SGD (Nesterov); AdamW's first beta; Muon has its own
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1  # share of the steps
    clip: Positive | None = 1.0  # gradient norm
    patience: Count | None = None  # validations without a better one before stopping; None: run to the end, keep the best
    validations: Count = 20  # over the stage, at most one an epoch
    keep: Literal["best", "last"] = "best"  # by validation
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: timed in the plan
    threads: Count | None = None  # of the processor; None: one or all, timed in the plan (small models are faster on one)
    channels_last: bool | None = None
    checkpoint_minutes: Positive = 1.0
