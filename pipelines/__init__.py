"""The top floor: when and where. Importing it prepares the environment, before torch can be imported."""

from pipelines.project import prepare_environment

prepare_environment()
