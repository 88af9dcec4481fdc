"""A small Kubeflow Pipelines API over real HTTP, which checks every body against the API's own models."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml

PREFIX = "/apis/v2beta1"


def checked(body, model):
    """The body, if it has only what the model has, with values that survive being read as the model."""
    api = kfp_server_api.ApiClient()

    class Response:
        data = json.dumps(body)

    read = api.sanitize_for_serialization(api.deserialize(Response, model))
    assert _words(read) == _words(body), f"{body} is no {model}: it was read as {read}"
    return body


def _words(tree):
    """Numbers of 64 bits may come as numbers or as text."""
    if isinstance(tree, dict):
        return {key: _words(value) for key, value in tree.items()}
    return str(tree) if isinstance(tree, int) and not isinstance(tree, bool) else tree


class ApiServer:
    """Keeps what it is sent; `fail` makes it answer one path with a status, `delay` makes it slow."""

    def __init__(self):
        self.pipelines, self.versions, self.experiments, self.runs, self.recurring = [], [], [], [], []
        self.fail: dict[str, int] = {}
        self.delay = 0.0
        self.page = 100  # the most that it answers with at a time
        self.token = None
        self.problems: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, path, query, headers, data):
        """Status and body for a request."""
        time.sleep(self.delay)
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"message": "no valid token"}
        for start, status in self.fail.items():
            if path.startswith(start):
                return status, {"message": "it was told to"}
        parts = path.strip("/").split("/")
        if method == "GET" and path == "/healthz":
            return 200, {"multi_user": False}
        if path == "/pipelines/upload_version":
            return 200, self._upload(query, data)
        body = json.loads(data) if data else None
        if parts[0] == "pipelines" and len(parts) == 3:
            of_pipeline = [one for one in self.versions if one["pipeline_id"] == parts[1]]
            return 200, {"pipeline_versions": self._named(of_pipeline, query)}
        if parts[0] == "recurringruns" and len(parts) == 2:
            return 200, self._change(method, parts[1])
        kind, model, key = {
            "pipelines": ("pipelines", "V2beta1Pipeline", "pipeline_id"),
            "experiments": ("experiments", "V2beta1Experiment", "experiment_id"),
            "runs": ("runs", "V2beta1Run", "run_id"),
            "recurringruns": ("recurring", "V2beta1RecurringRun", "recurring_run_id"),
        }[parts[0]]
        kept = getattr(self, kind)
        if method == "GET":
            name = "recurringRuns" if kind == "recurring" else kind
            start, size = (
                int(query.get("page_token", ["0"])[0]),
                min(self.page, int(query.get("page_size", [10])[0])),
            )
            found = self._named(kept, query) or []
            more = {"next_page_token": str(start + size)} if len(found) > start + size else {}
            return 200, {name: found[start : start + size] or None, **more}
        made = {**checked(body, model), key: f"{kind}-{len(kept)}"}
        if kind == "runs":
            made["state"] = "RUNNING"
        if kind == "recurring":
            made["status"] = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[made["mode"]]
        kept.append(made)
        return 200, made

    def _named(self, kept, query):
        """What the filter and the experiment ask for; an empty list is left out of answers, as the API does."""
        found = list(kept)
        for predicate in json.loads(query.get("filter", ['{"predicates": []}'])[0])["predicates"]:
            assert predicate["operation"] in ("EQUALS", 1) and predicate["key"] == "display_name"
            found = [one for one in found if one["display_name"] == predicate["stringValue"]]
        if "experiment_id" in query:
            found = [one for one in found if one["experiment_id"] == query["experiment_id"][0]]
        return found or None

    def _upload(self, query, data):
        assert b'name="uploadfile"' in data
        start = data.index(b"\r\n\r\n") + 4
        spec, platform = yaml.safe_load_all(data[start : data.rindex(b"\r\n--")])
        assert spec["schemaVersion"] == "2.1.0" and "kubernetes" in platform["platforms"]
        made = {
            "pipeline_id": query["pipelineid"][0],
            "display_name": query["name"][0],
            "pipeline_version_id": f"version-{len(self.versions)}",
        }
        self.versions.append(made)
        return made

    def _change(self, method, word):
        number, _, verb = word.partition(":")
        (run,) = [one for one in self.recurring if one["recurring_run_id"] == number]
        if method == "DELETE":
            self.recurring.remove(run)
        else:
            run["status"] = {"disable": "DISABLED", "enable": "ENABLED"}[verb]
        return {}

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def _serve(self):
                url = urlsplit(self.path)
                data = self.rfile.read(int(self.headers.get("content-length") or 0))
                try:
                    path = url.path.removeprefix(PREFIX)
                    status, body = server.answer(self.command, path, parse_qs(url.query), self.headers, data)
                except Exception as error:
                    server.problems.append(repr(error))
                    status, body = 400, {"message": repr(error)}
                payload = json.dumps({k: v for k, v in body.items() if v is not None}).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_DELETE = _serve

            def log_message(self, *words):
                pass

        return Handler
