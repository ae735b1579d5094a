"""Dagster and MLflow on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click

from ops.errors import AmalgamError
from pipelines.project import MLFLOW_URI, ROOT, tool

HOST = "127.0.0.1"


def serve(port: int, mlflow_port: int) -> None:
    """Run `dagster dev` and the MLflow server on the loopback address until either ends or Ctrl-C."""
    for name, number in (("Dagster", port), ("MLflow", mlflow_port)):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, number)) == 0:
                raise AmalgamError(f"port {number} is taken", f"end what uses it, or choose another port for {name}")
    bin_folder = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    commands = [
        tool("dagster", "dev", "--host", HOST, "--port", str(port), "--log-level", "warning"),
        tool(
            "mlflow",
            "server",
            "--host",
            HOST,
            "--port",
            str(mlflow_port),
            "--workers",
            "1",
            "--backend-store-uri",
            MLFLOW_URI,
        ),
    ]
    children = [subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True) for command in commands]
    click.echo(f"Dagster: http://{HOST}:{port}    MLflow: http://{HOST}:{mlflow_port}    (Ctrl-C ends both)")
    try:
        while all(child.poll() is None for child in children):
            time.sleep(0.5)
    finally:
        for child in children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGINT)
        for child in children:
            try:
                child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
