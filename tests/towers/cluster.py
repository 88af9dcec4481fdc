"""Processes that train together on this machine."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_ports(number):
    """Ports that nobody listens on; held together until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def tf_configs(number):
    """TF_CONFIG of each of so many processes, a chief and workers, as the training operator writes it."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
    cluster = {"chief": addresses[:1], "worker": addresses[1:]}
    tasks = [("chief", 0), *(("worker", index) for index in range(number - 1))]
    return [json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}) for kind, index in tasks]


def start(module, *words, tf_config=None, log=None):
    """Starts `python -m MODULE WORDS`."""
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    if tf_config:
        environment["TF_CONFIG"] = tf_config
    output = None if log is None else open(log, "ab")  # noqa: SIM115
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", module, *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=output,
        stderr=None if log is None else subprocess.STDOUT,
    )
