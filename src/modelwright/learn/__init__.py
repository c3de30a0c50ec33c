"""One loop for everything that learns: see `loop.fit`."""
