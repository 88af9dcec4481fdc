"""Refuses Beam workers that a compiled pipeline's artifacts would not reach."""

from collections.abc import Sequence

from transform.errors import TandemError

# What runs Beam inside the step's own container, in one process or several.
_IN_THE_STEP = ("DirectRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner", "FnApiRunner")


def check_beam_workers(beam_args: Sequence[str]) -> None:
    """Checks that every Beam stage runs in its step's container.

    Kubeflow keeps artifacts in a bucket and copies them into each step's container. Beam's stages hand each other names of
    those copies, so a worker elsewhere would read files that are not there and write some that nobody finds.

    Args:
      beam_args: the profile's.

    Raises:
      TandemError: the options name a runner whose workers are elsewhere.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions

    options = PipelineOptions(list(beam_args))
    runner = (options.view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER).split(".")[-1]
    loopback = (options.view_as(PortableOptions).environment_type or "").upper() == "LOOPBACK"
    if runner in _IN_THE_STEP or loopback:
        return
    raise TandemError(
        f"beam_args name {runner}, whose workers are apart from a step's container, into which Kubeflow copies artifacts"
        " from its bucket: they would not see them; expected workers in the step. Leave beam_args out and give the steps of"
        " Beam cores and memory in the cluster file, or use 'tandem run' with this profile where all mount one file system."
    )
