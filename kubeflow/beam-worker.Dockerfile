# Workers of a Beam cluster (Flink, Spark, Dataflow): Tandem's own image, started by Beam's boot program. After kubeflow/Dockerfile:
#   docker build -f kubeflow/beam-worker.Dockerfile -t tandem-beam-worker:0.1.0 --build-arg IMAGE=tandem:0.1.0 .
# As https://cloud.google.com/dataflow/docs/guides/build-container-image has it; the version is that of requirements.lock.
ARG IMAGE=tandem:0.1.0
FROM apache/beam_python3.10_sdk:2.74.0 AS beam
FROM ${IMAGE}
COPY --from=beam /opt/apache/beam /opt/apache/beam
# The packages are in Tandem's environment; without this, boot starts workers in an empty one.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
