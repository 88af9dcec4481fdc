"""The part of a Kubernetes API that serves TFJobs, over real HTTP; every job is checked before it is taken."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kubernetes import client

from tests.kubeflow.kubernetes_schema import problems

# Fields of the custom resource kubeflow.org/v1 TFJob, as its definition in the training operator has them; what is below
# `template` and `metadata` are Kubernetes' own models.
RUN_POLICY = {
    "activeDeadlineSeconds": int,
    "backoffLimit": int,
    "cleanPodPolicy": str,
    "schedulingPolicy": dict,
    "suspend": bool,
    "ttlSecondsAfterFinished": int,
}
SPEC = {"enableDynamicWorker": bool, "runPolicy": dict, "successPolicy": str, "tfReplicaSpecs": dict}
REPLICA = {"replicas": int, "restartPolicy": str, "template": dict}
KINDS = ("Chief", "Worker", "PS", "Evaluator")


def job_problems(job):
    """What of a TFJob the training operator does not know, by path."""
    found = _fields(job, {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict}, "TFJob")
    if (job.get("apiVersion"), job.get("kind")) != ("kubeflow.org/v1", "TFJob"):
        found.append(f"TFJob: is {job.get('apiVersion')} {job.get('kind')}")
    spec = job.get("spec", {})
    found += problems(job.get("metadata", {}), "V1ObjectMeta", "metadata")
    found += _fields(spec, SPEC, "spec") + _fields(spec.get("runPolicy", {}), RUN_POLICY, "spec.runPolicy")
    if spec.get("runPolicy", {}).get("cleanPodPolicy", "None") not in ("None", "Running", "All"):
        found.append("spec.runPolicy.cleanPodPolicy: unknown")
    for kind, replica in spec.get("tfReplicaSpecs", {}).items():
        where = f"spec.tfReplicaSpecs.{kind}"
        found += _fields(replica, REPLICA, where)
        found += problems(replica.get("template", {}), "V1PodTemplateSpec", f"{where}.template")
        if kind not in KINDS:
            found.append(f"{where}: no such replica type")
        if replica.get("restartPolicy") not in ("Always", "OnFailure", "Never", "ExitCode"):
            found.append(f"{where}.restartPolicy: unknown")
        containers = replica.get("template", {}).get("spec", {}).get("containers", [])
        if "tensorflow" not in [container.get("name") for container in containers]:
            found.append(f"{where}: no container is called tensorflow")
    return found


def _fields(value, known, where):
    return [
        f"{where}.{key}: unknown, or no {known.get(key, object).__name__}"
        for key, one in value.items()
        if not isinstance(one, known.get(key, ()))
    ]


class TFJobApi:
    """Takes jobs and says how they are; `on_job` is what the operator's pods do, and returns the last condition."""

    def __init__(self, on_job):
        self.on_job = on_job
        self.jobs, self.problems, self.errors, self.asked = {}, [], [], 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        configuration = client.Configuration(host=f"http://127.0.0.1:{self._server.server_port}")
        configuration.retries = False
        self.client = client.CustomObjectsApi(client.ApiClient(configuration))

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, path, body):
        """Status and body for a request."""
        if self.errors:
            return self.errors.pop(0), {"message": "it was told to"}
        start = "/apis/kubeflow.org/v1/namespaces/shop/tfjobs"
        if method == "POST" and path == start:
            self.problems += job_problems(body)
            name = body["metadata"]["name"]
            if name in self.jobs:
                return 409, {"message": "there already"}
            running = {"type": "Running", "status": "True"}
            self.jobs[name] = body | {"status": {"conditions": [running]}}
            return 201, self.jobs[name]
        name = path.removeprefix(f"{start}/")
        if method != "GET" or name not in self.jobs:
            return 404, {"message": f"no {path}"}
        self.asked += 1
        found = self.jobs[name]
        if self.asked == 2 and "spec" in found:  # the first look finds it at work
            found["status"]["conditions"] = [{"type": "Running", "status": "False"}, self.on_job(found)]
        return 200, found

    def _handler(api):
        class Handler(BaseHTTPRequestHandler):
            def _do(self):
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = api.answer(self.command, self.path, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _do

            def log_message(self, *_):
                pass

        return Handler
