"""The fine-tuning of a network with PyTorch Lightning."""
