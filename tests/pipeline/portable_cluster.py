"""What a Flink or Spark cluster is to Beam, on this machine: a job service and a pool of workers, in processes of their own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

_PATIENCE = 120


@contextlib.contextmanager
def portable_cluster(directory, job_port=0, pool_port=0):
    """Starts both, on free ports or these, and stops them; yields the Beam options that reach them, as
    pipeline/profiles/flink.yaml names its own."""
    here = str(Path(sys.executable).parent)  # the pool starts `python`
    environment = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(Path(directory, "cluster.log").open("w"))

        def start(module, *words):
            process = subprocess.Popen(
                [sys.executable, "-m", f"apache_beam.runners.{module}", *words],
                cwd=Path(__file__).parents[2],  # where the workers find the packages, as in an image
                env=environment,
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        port_file = Path(directory, "port")
        service = start(
            "portability.local_job_service_main", "--port", str(job_port), "--port_file", str(port_file)
        )
        pool_port = pool_port or _free_port()
        pool = start("worker.worker_pool_main", "--service_port", str(pool_port))
        deadline = time.monotonic() + _PATIENCE
        while not (port_file.exists() and port_file.read_text() and _answers(pool_port)):
            assert time.monotonic() < deadline, "the cluster did not start"
            assert service.poll() is None and pool.poll() is None, Path(directory, "cluster.log").read_text()
            time.sleep(0.1)
        yield (
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{port_file.read_text()}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{pool_port}",
            "--sdk_container_image=workers-have-it",
        )


def _free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
        return True
    return False
