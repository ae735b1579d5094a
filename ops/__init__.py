"""The bottom floor: how artefacts are computed, in plain Python and PyTorch."""
