"""Partitions: one per training seed."""

from collections.abc import Sequence

import dagster as dg


def seed_partitions(seeds: Sequence[int]) -> dg.StaticPartitionsDefinition:
    """Return the partitions `seed-<n>`."""
    return dg.StaticPartitionsDefinition([f"seed-{seed}" for seed in seeds])
