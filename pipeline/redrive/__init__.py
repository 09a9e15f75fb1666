"""Dead letters brought back into the stream, each flow once, under its own id."""
