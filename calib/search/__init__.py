"""What is measured of a quantized model, and what is then left in float."""
