"""For whom a model works: measures by group, worst groups and gaps, in and out of distribution."""
