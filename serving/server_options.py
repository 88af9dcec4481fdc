"""What a retrieval server is started with; knows nothing of TensorFlow, so that help and errors come at once."""

import ipaddress
import os
from dataclasses import dataclass

from serving.request_inputs import Limits
from transform.errors import TandemError

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class ServerOptions:
    """How one server runs.

    Attributes:
      push_dir: the directory of versions; may not be there yet. "": the configuration's base_path.
      port: of the gRPC API; 0 takes any that is free.
      host: the interface to listen on.
      model_name: the name that requests must give; "": the configuration's, or `MODEL_NAME` without one.
      model_config_file: TensorFlow Serving's `ModelServerConfig` as text; "": the newest version is served.
      poll_seconds: how often the push directory is looked into.
      limits: how large a request's tensors may be.
      max_message_mb: how large a request may be on the wire, in MiB.
      max_streams: calls under way at once on one connection; more wait at the client.
      max_in_flight: requests that compute or wait for their turn; one more is refused at once.
      tls_cert: PEM file, the server's certificate; "": no TLS.
      tls_key: PEM file, its private key.
      tls_client_ca: PEM file, roots of the certificates that clients must show; "": none is asked for.
      tokens: file of tokens and their roles, see `serving.access`; "": none is asked for.
      insecure: whether others than this machine may be served with neither TLS nor tokens.
      rest_port: of the REST API over HTTP; 0 takes any that is free, none: no REST.
      metrics_port: of Prometheus metrics over HTTP; 0 takes any that is free, none: no metrics.
      request_log: file for a JSON line a call, "-" for standard output; "": no such log.
      log_inputs: whether that log holds what clients wrote: queries, histories, user features.
      prediction_log: directory for files of sampled requests and answers; "": none is kept.
      prediction_log_rate: share of the answered requests that is kept there, above 0 and up to 1.
      batching_parameters_file: TensorFlow Serving's batching parameters as text; "": each request is answered
        alone.
      cache_mb: size of the cache of answers, in MiB; 0: none.
      precision: in which the encoder multiplies, "float32" or "bfloat16"; "auto": bfloat16 where the processor has instructions
        for it.
      catalog_dir: of the log of catalogue changes; "": the push directory's name with "-catalog", beside it.
      workers: requests that compute at once, where they are not batched; TensorFlow and ScaNN let go of the
        interpreter lock meanwhile.
    """

    push_dir: str | os.PathLike[str]
    port: int
    host: str = "127.0.0.1"
    model_name: str = ""
    model_config_file: str = ""
    poll_seconds: float = 1.0
    limits: Limits = Limits()
    max_message_mb: int = 16
    max_streams: int = 128
    max_in_flight: int = 64
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tokens: str = ""
    insecure: bool = False
    rest_port: int | None = None
    metrics_port: int | None = None
    request_log: str = ""
    log_inputs: bool = False
    prediction_log: str = ""
    prediction_log_rate: float = 0.01
    batching_parameters_file: str = ""
    cache_mb: int = 0
    precision: str = "auto"
    catalog_dir: str = ""
    workers: int = 16

    def __post_init__(self) -> None:
        if not self.push_dir and not self.model_config_file:
            raise TandemError("no push directory is named: name one with --push-dir or --model-config-file.")
        if self.model_name and self.model_config_file:
            raise TandemError(
                f"--model-name is {self.model_name!r} and --model-config-file names the model, too: leave"
                " out one of them."
            )
        if self.log_inputs and not self.request_log:
            raise TandemError("--log-inputs is given without --request-log: name the file, or leave it out.")
        if not 0 < self.prediction_log_rate <= 1:
            raise TandemError(
                f"--prediction-log-rate is {self.prediction_log_rate:g}, expected a share above 0 and up to 1: mend"
                " it."
            )
        if self.precision not in PRECISIONS:
            raise TandemError(
                f"--precision is {self.precision!r}, expected one of {', '.join(PRECISIONS)}: mend it."
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise TandemError("--tls-cert and --tls-key go together: name both files, or neither.")
        if self.tls_client_ca and not self.tls_cert:
            raise TandemError("--tls-client-ca is given without --tls-cert: name the server's own, too.")
        if not (self.tls_cert or self.tokens or self.insecure or _is_loopback(self.host)):
            raise TandemError(
                f"--host {self.host} can be reached by others, expected --tls-cert or --tokens: add one, listen"
                " on 127.0.0.1, or say --insecure."
            )
        for flag, value, least in (
            ("--max-in-flight", self.max_in_flight, 1),
            ("--max-message-mb", self.max_message_mb, 1),
            ("--cache-mb", self.cache_mb, 0),
        ):
            if value < least:
                raise TandemError(f"{flag} is {value}, expected at least {least}.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
