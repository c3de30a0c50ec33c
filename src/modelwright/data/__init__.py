"""From a source to batches: sources -> schema -> splits -> dataset -> streams."""
