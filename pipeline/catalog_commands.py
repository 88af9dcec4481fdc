"""`tandem catalog`: items put into a running server's catalogue, and taken out of it, without training."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transform.errors import TandemError

if TYPE_CHECKING:
    from serving.catalogue_client import Applied, CatalogueClient

# Items of one change: it is embedded, written and shown in one step, and fits any server's limits.
_BATCH = 256


def add_catalog_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `catalog upsert` and `catalog delete`."""
    catalog = commands.add_parser("catalog", help="change the items of a running server, without training")
    actions = catalog.add_subparsers(required=True, metavar="ACTION")
    upsert = actions.add_parser("upsert", help="put items into the catalogue, new ones or with new content")
    upsert.add_argument(
        "file", help="items as .csv, .parquet or .jsonl, with item_id, title and declared columns"
    )
    _add_server(upsert)
    upsert.set_defaults(call=_upsert)
    delete = actions.add_parser(
        "delete", help="take items out of the catalogue, until they are upserted again"
    )
    delete.add_argument("item_id", nargs="+", help="as in the items file")
    _add_server(delete)
    delete.set_defaults(call=_delete)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server", default="127.0.0.1:8500", help="address of the server (default: 127.0.0.1:8500)"
    )
    parser.add_argument("--model-name", default="retrieval", help="that it serves (default: retrieval)")
    parser.add_argument(
        "--token-file", metavar="FILE", help="holds a token with the role admin (default: none)"
    )
    parser.add_argument(
        "--tls-ca", metavar="PEM", default="", help="roots of the server's certificate (default: no TLS)"
    )
    parser.add_argument(
        "--tls-cert", metavar="PEM", default="", help="the client's certificate, for mutual TLS"
    )
    parser.add_argument("--tls-key", metavar="PEM", default="", help="its private key")


def _upsert(options: argparse.Namespace) -> None:
    from transform.items_file import read_items_file

    with _client(options) as client:
        file = read_items_file(options.file, client.item_columns())
        if file.unread:
            print(f"columns that the model does not read, left out: {', '.join(file.unread)}")
        started = time.monotonic()
        answers = _in_batches(file.items, lambda batch: client.apply(upsert=batch))
    seconds = time.monotonic() - started
    print(f"{len(file.items):,} items upserted in {seconds:.1f} s, in the answers of {_versions(answers)}")


def _delete(options: argparse.Namespace) -> None:
    with _client(options) as client:
        ids = list(dict.fromkeys(options.item_id))
        answers = _in_batches(ids, lambda batch: client.apply(delete=batch))
    print(f"{len(ids):,} items deleted, out of the answers of {_versions(answers)}")
    unknown = [item_id for answer in answers for item_id in answer.not_found]
    if unknown:
        print(f"not in the catalogue, and kept out from now on: {', '.join(unknown)}")


def _in_batches(things: Sequence[Any], send: "Callable[[Sequence[Any]], Applied]") -> "list[Applied]":
    from rich.progress import track

    starts = range(0, len(things), _BATCH)
    answers: list[Applied] = []
    for start in track(starts, description="sent", transient=True, disable=len(starts) == 1):
        try:
            answers.append(send(things[start : start + _BATCH]))
        except TandemError as error:
            if not start:
                raise
            raise TandemError(
                f"{error} (The first {start:,} of {len(things):,} have been changed; sending all again does no harm.)"
            ) from error
    return answers


def _versions(answers: "Sequence[Applied]") -> str:
    numbers = sorted(answers[-1].versions)
    return f"version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _client(options: argparse.Namespace) -> "CatalogueClient":
    from serving.catalogue_client import CatalogueClient
    from serving.channel import Security

    security = Security(_token(options.token_file), options.tls_ca, options.tls_cert, options.tls_key)
    return CatalogueClient(options.server, options.model_name, security=security)


def _token(path: str | None) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TandemError(f"{path} cannot be read, expected a file with a token: name another.") from error
