"""What an op tells about the artefact it made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Figure = int | float | str


@dataclass(frozen=True)
class Summary:
    """Figures, small tables and texts about one artefact.

    Figures become metadata of the materialisation (numbers are drawn as time series in the Dagster UI) and, for
    training steps, final metrics in MLflow. Pictures are not listed here: every PNG in the `pictures` folder of the
    artefact is shown.
    """

    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Figure]]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    """Markdown by name."""
