"""A connection to Kubeflow Pipelines, and its failures as one line each."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transform.errors import TandemError

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0


@contextlib.contextmanager
def connected(
    host: str,
    *,
    token_file: str | None = None,
    namespace: str | None = None,
    seconds: tuple[float, float] = (CONNECT_SECONDS, READ_SECONDS),
) -> Iterator[Any]:
    """Gives a `kfp.Client`; whatever its calls raise in the block is turned into one line.

    Args:
      host: URL of the Kubeflow Pipelines API, such as http://localhost:8888.
      token_file: file with a bearer token; None where the API asks for none.
      namespace: the user's, where several users share Kubeflow; None where there is one.
      seconds: to wait for a connection, and for an answer.

    Raises:
      TandemError: the token file is not there, the host is not reachable or too slow, or it refuses a call.
    """
    if not host.startswith(("http://", "https://")):
        raise TandemError(f"host {host!r} is no URL; expected one such as http://localhost:8888.")
    token = _token(token_file)
    import kfp_server_api
    import urllib3

    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        from kfp.client import Client

        try:
            _greet(host, token, seconds)
            client = Client(host=host, existing_token=token, namespace=namespace or "kubeflow")
            _limit(client._run_api.api_client, seconds)
            yield client
        except kfp_server_api.ApiException as error:
            raise TandemError(_refusal(host, error)) from error
        except (urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise TandemError(_too_slow(host, seconds)) from error
        except urllib3.exceptions.MaxRetryError as error:
            if isinstance(error.reason, urllib3.exceptions.TimeoutError) and not isinstance(
                error.reason, urllib3.exceptions.NewConnectionError
            ):
                raise TandemError(_too_slow(host, seconds)) from error
            raise TandemError(_not_reachable(host)) from error
        except urllib3.exceptions.HTTPError as error:
            raise TandemError(_not_reachable(host)) from error


def _greet(host: str, token: str | None, seconds: tuple[float, float]) -> None:
    """Asks for the API's health once: the client would try five times, with a traceback each."""
    import kfp_server_api

    configuration = kfp_server_api.Configuration(host=host.rstrip("/"))
    configuration.retries = 0
    if token:
        configuration.api_key["authorization"] = token
        configuration.api_key_prefix["authorization"] = "Bearer"
    api = kfp_server_api.ApiClient(configuration)
    kfp_server_api.HealthzServiceApi(api).get_healthz(_request_timeout=seconds)


def _limit(api_client: Any, seconds: tuple[float, float]) -> None:
    """Every call of the client gives up after `seconds`: it has no such setting itself."""
    request = api_client.rest_client.request

    def limited(*words: Any, _request_timeout: Any = None, **named: Any) -> Any:
        return request(*words, _request_timeout=_request_timeout or seconds, **named)

    api_client.rest_client.request = limited


def _token(token_file: str | None) -> str | None:
    if token_file is None:
        return None
    try:
        token = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not token:
        raise TandemError(
            f"token file {token_file!r} cannot be read or is empty; expected one line with a token."
        )
    return token


def _refusal(host: str, error: Any) -> str:
    status, said = error.status, _said(error)
    if status in (401, 403):
        return (
            f"{host} refused the log-in (status {status}{said}); expected a token that may do this:"
            " give one with --token-file, and --namespace where users have their own."
        )
    if status == 404:
        return (
            f"{host} does not know what was asked for (status 404{said}); expected the API of Kubeflow Pipelines 2:"
            " mend the URL, it ends before /apis."
        )
    if status == 409:
        return (
            f"{host} has something else of that name already (status 409{said}); expected to be alone:"
            " somebody may have sent the same at this moment, so try again."
        )
    if status and status >= 500:
        return f"{host} failed (status {status}{said}); expected an answer: look at the log of ml-pipeline, try again."
    return f"{host} did not take the request (status {status}{said}); expected a Kubeflow Pipelines of version 2."


def _said(error: Any) -> str:
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else error.body or ""
    try:
        answer = json.loads(body)
        text = answer.get("message") or answer.get("error") or "" if isinstance(answer, dict) else ""
    except ValueError:
        text = ""
    words = " ".join(str(text or error.reason or "").split())
    return f", {words[:200]!r}" if words else ""


def _too_slow(host: str, seconds: tuple[float, float]) -> str:
    return (
        f"{host} did not answer within {seconds[1]:g} seconds; expected Kubeflow Pipelines there:"
        " see whether it is up, then try again: what was done already is not done twice."
    )


def _not_reachable(host: str) -> str:
    return (
        f"{host} is not reachable; expected Kubeflow Pipelines there: mend the URL, or make it reachable,"
        " for example with 'kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888'."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The client prints links and logs retries; here one line says what came of it."""
    logger = logging.getLogger("urllib3.connectionpool")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
