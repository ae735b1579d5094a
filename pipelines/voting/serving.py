"""The voting page on the loopback address."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.errors import AmalgamError
from ops.generate.preference.study import EvalPlan

if TYPE_CHECKING:
    from ops.data.loading import ImageSet

HOST = "127.0.0.1"


def serve(
    study: EvalPlan,
    sources: "Mapping[str, ImageSet]",
    folder: Path,
    port: int,
    real: "ImageSet | None" = None,
    per_rater: int = 100,
) -> None:
    """Show the voting page of a study until Ctrl-C; votes are in `folder/votes/<study_id>.jsonl`.

    Args:
        study: the plan.
        sources: the images of each generator (`open_sources`).
        folder: where votes are kept; the next call with the same study goes on with them.
        port: of 127.0.0.1.
        real: real images, if the aspect shows a reference.
        per_rater: comparisons that one person is asked for.

    Raises AmalgamError if the port is taken, the images are not those of the study, or its votes are open elsewhere.
    """
    import uvicorn

    from pipelines.voting.app import voting_app
    from pipelines.voting.booth import Booth

    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise AmalgamError(f"port {port} is taken", "end what uses it, or choose another port")
    booth = Booth(study, sources, folder, real, per_rater)
    click.echo(f"Vote at http://{HOST}:{port}    study {study.study_id}    (Ctrl-C ends; votes are kept)")
    try:
        uvicorn.run(voting_app(booth), host=HOST, port=port, log_level="warning", access_log=False, server_header=False)
    finally:
        booth.close()
