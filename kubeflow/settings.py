"""What a cluster gives each step: image, resources, retries, volumes, secrets; loaded from a YAML file of its own."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.settings_file import one_line, read_mapping
from transform.errors import TandemError

_ABSOLUTE = r"^/[^\s]*$"
_KUBERNETES_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class Volume(BaseModel):
    """A persistent volume claim, mounted into a step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str = Field(pattern=_KUBERNETES_NAME, description="Name of the PersistentVolumeClaim.")
    mount: str = Field(pattern=_ABSOLUTE, description="Where the step sees it.")


class Secret(BaseModel):
    """A Kubernetes secret: files below `mount`, or one key in an environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_KUBERNETES_NAME, description="Name of the Secret.")
    mount: str | None = Field(default=None, pattern=_ABSOLUTE, description="Directory of its files.")
    key: str | None = Field(default=None, description="Which entry the variable holds.")
    env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="The variable.")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "Secret":
        as_files, as_variable = self.mount is not None, self.key is not None and self.env is not None
        if as_files == as_variable or (self.key is None) != (self.env is None):
            raise ValueError("a secret needs either mount, or key and env")
        return self


class Step(BaseModel):
    """What a step's container gets; a field that a step leaves out is taken from `defaults`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str | None = Field(default=None, description="Instead of the pipeline's image.")
    cpu_request: float = Field(default=1, gt=0, description="Cores kept for the step.")
    cpu_limit: float = Field(default=2, gt=0, description="Cores the step may use.")
    memory_request_gb: float = Field(default=4, gt=0, description="Memory kept for the step, in 10^9 bytes.")
    memory_limit_gb: float = Field(default=8, gt=0, description="Above it the step is killed.")
    gpus: int = Field(default=0, ge=0, description="GPUs the step gets; its image has to be built for them.")
    gpu_type: str = Field(default="nvidia.com/gpu", min_length=1, description="Resource name of the GPUs.")
    retries: int = Field(default=2, ge=0, le=10, description="Further attempts after a failure.")
    backoff_seconds: int = Field(
        default=30, ge=0, description="Wait before the first retry; it doubles each time."
    )
    cache: bool = Field(
        default=True,
        description="Take outputs from an earlier run with the same inputs; never for a step that looks at a"
        " directory outside its artifacts, whatever stands here.",
    )
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[Secret, ...] = ()

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> "Step":
        for what in ("cpu", "memory"):
            unit = "_gb" if what == "memory" else ""
            request, limit = getattr(self, f"{what}_request{unit}"), getattr(self, f"{what}_limit{unit}")
            if request > limit:
                raise ValueError(f"{what}_request{unit} {request:g} is above {what}_limit{unit} {limit:g}")
        return self


class ClusterPaths(BaseModel):
    """Where steps find what the profile names; a profile's own paths are of another machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(pattern=_ABSOLUTE, description="Instead of data.dataset.")
    push_dir: str = Field(pattern=_ABSOLUTE, description="Instead of paths.push_dir.")
    encoder: str = Field(pattern=_ABSOLUTE, description="Instead of encoder.preset.")
    runs: str = Field(
        pattern=_ABSOLUTE,
        description="Instead of paths.pipeline_root: what runs keep beside their artifacts, such as TensorBoard's files.",
    )


class ClusterSettings(BaseModel):
    """Everything that running on Kubeflow adds to a profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field(min_length=1, description="Built from kubeflow/Dockerfile, with its tag.")
    pipeline_root: str | None = Field(
        default=None,
        pattern=r"^(minio|s3|gs)://[^/\s]+(/\S*)?$",
        description="Bucket for artifacts; None is the one that Kubeflow is set up with.",
    )
    paths: ClusterPaths
    defaults: Step = Step()
    steps: dict[str, dict[str, Any]] = Field(default={}, description="By component: what differs.")
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Machines that train together, each with what `steps` says of Trainer; above 1 Kubeflow's training"
        " operator runs them, and the Trainer step gets `defaults` and waits.",
    )

    @model_validator(mode="after")
    def _steps_and_paths_are_sound(self) -> "ClusterSettings":
        for component in self.steps:
            try:
                self.step(component)
            except ValidationError as error:
                raise ValueError(f"steps.{component}: {one_line(error, Step)}") from error
        mounts = [volume.mount.rstrip("/") for volume in self.defaults.volumes]
        for name, path in self.paths.model_dump().items():
            if not any(path == mount or path.startswith(f"{mount}/") for mount in mounts):
                raise ValueError(
                    f"paths.{name} {path!r} is below no mount of defaults.volumes ({', '.join(mounts) or 'none'}):"
                    " steps would not see it"
                )
        return self

    def step(self, component: str) -> Step:
        """What one component's container gets: `defaults` with the component's own fields put over them."""
        return Step.model_validate(self.defaults.model_dump() | self.steps.get(component, {}))

    def container(self, component: str) -> Step:
        """What the step's own container gets: `step`, but for a Trainer that only waits for its workers."""
        return self.defaults if component == "Trainer" and self.workers > 1 else self.step(component)


def load_cluster(file: str | Path) -> ClusterSettings:
    """Reads and checks a YAML file of cluster settings.

    Raises:
      TandemError: the file is missing, is no YAML mapping, or holds a wrong key or value; the message names the key.
    """
    tree = read_mapping(file, "cluster file", "kubeflow/profiles/cluster.yaml", "image")
    try:
        return ClusterSettings.model_validate(tree)
    except ValidationError as error:
        raise TandemError(f"cluster file {str(file)!r}: {one_line(error, ClusterSettings)}") from error
