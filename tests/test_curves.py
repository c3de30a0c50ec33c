"""What a run writes while it learns, read back: by TensorBoard's own reader, and after a run that was cut and goes on."""

import json

from modelwright.curves import Curves


def read(folder, stage):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard" / stage), size_guidance={"scalars": 0})
    board.Reload()
    assert board.Tags()["scalars"] == ["loss"]
    return [(e.step, round(e.value, 3)) for e in board.Scalars("loss")]


def test_a_cut_runs_curves_go_on_without_a_step_back(tmp_path):
    def learn(folder, stage, steps, by):
        write = folder.writer(stage, lambda event, facts: None)
        for step in steps:
            write({"step": step, "loss": by * step})

    first = Curves(tmp_path)
    learn(first, "pretrain", range(1, 6), 1.0)
    learn(first, "fit on all", range(1, 8), 1.0)
    first.close()  # its last checkpoint of the second stage was at step 3
    again = Curves(tmp_path)
    learn(again, "fit on all", range(4, 9), 2.0)
    again.close()
    after = [(step, float(step) if step < 4 else 2.0 * step) for step in range(1, 9)]
    assert read(tmp_path, "pretrain") == [(step, float(step)) for step in range(1, 6)] and read(tmp_path, "fit on all") == after
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [(line["step"], line["loss"]) for line in lines if line["stage"] == "fit on all"] == after and len(lines) == 5 + 8
