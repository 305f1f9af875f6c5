"""The method: quantized weights, quantized membranes, channel gates and skip masks. Pure torch."""
