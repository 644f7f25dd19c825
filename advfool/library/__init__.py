"""What a user calls from Python, without Hydra."""
