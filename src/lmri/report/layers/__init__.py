"""The page of layers: massive activations, the residual stream, void layers, sinks."""
