"""`gym://NAME` or `gym://file.py:function`: an environment to act in. Its table is what a uniformly random policy saw, for kinds and statistics."""

from __future__ import annotations

from typing import Any

from ..environments import Environment
from .loaded import Context, Loaded

STEPS, EPISODES = 4_000, 200  # played at random


def read_environment(source: str, context: Context, options: dict[str, Any], seed: int = 0) -> Loaded:
    """One row a step, or with `history: true` one row an episode. Loaded.environment is what rollouts act in."""
    environment = Environment(source.removeprefix("gym://"), root=context.root, **options)
    n, unit = (EPISODES, "episodes") if environment.history else (STEPS, "steps")
    table = environment.sample(n, seed)
    return Loaded(table, [f"{environment.name}: the table is {n:,} {unit} by a random policy"], source, root=context.root, environment=environment)
