"""InteractionGen in worker processes, and what Transform's workers need before they can load its graph."""

import copyreg
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from apache_beam.internal import cloudpickle_pickler
from tensorflow_transform.beam import impl
from tfx_bsl.public.tfxio import TensorAdapterConfig

from tests.transform.conftest import make
from tests.transform.run_interaction_gen import IN_PROCESS
from transform.worker_ops import register_in_workers

ROOT = Path(__file__).parents[2]
LOAD = """
import sys
from apache_beam.internal import cloudpickle_pickler
graph = cloudpickle_pickler.loads(sys.stdin.buffer.read())
print(type(graph).__name__, vars(graph)["_passthrough_keys"], "tensorflow_text" in sys.modules)
"""


def files_of(run):
    directory = Path(run.examples.uri)
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_two_worker_processes_make_the_same_files_as_one_process(first_run, shop, tmp_path):
    workers = (*IN_PROCESS, "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    there = make(tmp_path, shop, newest=2, beam_args=workers)
    assert any(name.startswith("Split-train") for name in files_of(there))
    assert files_of(there) == files_of(first_run)


def graph_loader():
    """TensorFlow Transform's DoFn that loads a graph, as a worker gets it."""
    return impl._RunMetaGraphDoFn(
        tf_config=None,
        shared_graph_state_handle=None,
        passthrough_keys=["a"],
        use_tf_compat_v1=False,
        input_tensor_adapter_config=TensorAdapterConfig(pa.schema([]), {}),
    )


def in_worker(pickled):
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD], input=pickled, capture_output=True, cwd=ROOT, check=True
    )
    return process.stdout.decode().split()


@pytest.mark.parametrize("is_registered", [True, False])
def test_a_worker_that_gets_a_graph_knows_the_operations_of_text(is_registered, monkeypatch):
    """And negative control: as TensorFlow Transform pickles it, it would meet an operation that nobody registered."""
    register_in_workers()
    if not is_registered:
        monkeypatch.delitem(copyreg.dispatch_table, impl._RunMetaGraphDoFn)
    assert in_worker(cloudpickle_pickler.dumps(graph_loader())) == [
        "_RunMetaGraphDoFn",
        "['a']",
        str(is_registered),
    ]
