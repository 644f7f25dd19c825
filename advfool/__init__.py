"""advfool: fool neural network interpretations by adversarial model manipulation, and measure it."""
