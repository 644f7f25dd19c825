"""Record one forward pass of a network: its values, its graph and its gradients."""
