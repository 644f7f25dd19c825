"""AM-1: one protocol that says whether an interpreter's heatmaps can be made to lie, and at what price."""
