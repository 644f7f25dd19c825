"""From a Hydra config to objects, and from results to the files of a run."""
