"""How a stage learns: the dials a task file may turn. None means "decide from data and model"; the plan shows what was decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

Positive = Annotated[float, Field(gt=0, lt=1e12)]
Count = Annotated[int, Field(ge=1, lt=2**53)]


class Checked(BaseModel):
    """Named values, of which none is unknown, not finite, or a truth where a number stands."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="wrap")
    @classmethod
    def no_truth(cls, given: Any, read: Callable[[Any], Any]) -> Any:
        """`patience: true` would be a patience of 1."""
        value = read(given)
        if isinstance(given, bool) and not isinstance(value, bool):
            raise PydanticCustomError("no_number", "input should be a number")
        return value


class Settings(Checked):
    epochs: Positive | None = None  # passes over the training split
    steps: Count | None = None  # updates, instead of epochs
    minutes: Positive | None = None  # of training: the plan measures a step and chooses the epochs; settled by the first hundredth, then at 4, 16, 64 times it
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
