"""The original and the manipulated network side by side."""
