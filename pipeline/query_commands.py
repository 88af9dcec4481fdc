"""`tandem query` and `tandem related`: their words."""

import argparse


def add_query_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands that ask a running server."""
    query = commands.add_parser(
        "query", help="ask a running server and print titles, scores, version, milliseconds"
    )
    query.add_argument("query", nargs="?", default="", help="what the customer typed; may be empty")
    query.add_argument(
        "--history", default="", metavar="ID,ID", help="items the customer acted on, newest first"
    )
    query.add_argument(
        "--text", action="append", default=[], metavar="NAME=VALUE", help="a category or path feature"
    )
    query.add_argument("--number", action="append", default=[], metavar="NAME=VALUE", help="a number feature")
    query.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only items with this value of a category or path feature; several of one name: one of them",
    )
    query.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="NAME=MIN..MAX",
        help="only items whose number is within, both included; either end may be left out",
    )
    query.add_argument(
        "--exclude-history", action="store_true", help="only items that are not in the history"
    )
    _add_server(query)
    query.set_defaults(call=_query)

    related = commands.add_parser("related", help="ask a running server for the items that are like one")
    related.add_argument("item_id", help="as in the items file")
    _add_server(related)
    related.set_defaults(call=_related)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-k", type=int, default=10, help="how many items (default: 10)")
    parser.add_argument(
        "--server", default="127.0.0.1:8500", help="address of the server (default: 127.0.0.1:8500)"
    )


def _query(options: argparse.Namespace) -> None:
    from pipeline.query import filter_of, query

    chosen = filter_of(options.filter, options.range, options.exclude_history)
    query(options.server, options.query, options.history, options.k, options.text, options.number, chosen)


def _related(options: argparse.Namespace) -> None:
    from pipeline.query import related

    related(options.server, options.item_id, options.k)
