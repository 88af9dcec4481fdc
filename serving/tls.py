"""Certificates of the server: the same files for gRPC and for HTTP."""

import ssl
from pathlib import Path
from typing import NamedTuple

import grpc

from transform.errors import TandemError


class Tls(NamedTuple):
    """What a server shows its clients, and what it asks of them.

    Attributes:
      credentials: for gRPC.
      context: for HTTP, TLS 1.2 or newer.
    """

    credentials: grpc.ServerCredentials
    context: ssl.SSLContext


def read_tls(cert_file: str, key_file: str, client_ca_file: str = "") -> Tls:
    """Reads PEM files.

    Args:
      cert_file: the server's certificate, with those between it and the root.
      key_file: its private key, without a passphrase.
      client_ca_file: roots of the clients' certificates, which makes them required; "": none is asked for.

    Raises:
      TandemError: a file cannot be read, or holds no certificate or another's key.
    """
    cert, key = _read(cert_file, "--tls-cert"), _read(key_file, "--tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert_file, key_file, password="")
    except (ssl.SSLError, ValueError) as error:
        raise TandemError(
            f"{cert_file} and {key_file} are refused ({_reason(error)}), expected a PEM certificate and its own"
            " key without a passphrase: mend --tls-cert and --tls-key."
        ) from error
    if not client_ca_file:
        return Tls(grpc.ssl_server_credentials([(key, cert)]), context)
    roots = _read(client_ca_file, "--tls-client-ca")
    try:
        context.load_verify_locations(client_ca_file)
    except ssl.SSLError as error:
        raise TandemError(
            f"{client_ca_file} is refused ({_reason(error)}), expected PEM certificates: mend --tls-client-ca."
        ) from error
    context.verify_mode = ssl.CERT_REQUIRED
    return Tls(grpc.ssl_server_credentials([(key, cert)], roots, require_client_auth=True), context)


def _read(path: str, flag: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TandemError(
            f"{path} cannot be read ({error.strerror}), expected a PEM file: name another with {flag}."
        ) from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).lower().replace("_", " ")
