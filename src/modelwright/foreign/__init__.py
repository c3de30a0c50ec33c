"""Models and trainers from elsewhere: an ONNX file, a Hugging Face folder, or a user's own `file.py:factory` in a process that sees inputs and never labels.

`predictor.py` makes each of them a Predictor. `process.py` and `worker.py` are the two ends of the process in which somebody else's code runs; what it
answers can be differentiated (`remote.py`), and a private training step audited (`trainer.py`)."""
