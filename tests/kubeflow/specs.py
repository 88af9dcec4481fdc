"""Tiny pipeline files whose containers are plain Python commands."""

import yaml

READ = "import json, os, sys; e = json.loads(sys.argv[1]); "
WRITE = "open(e['outputs']['artifacts']['out']['artifacts'][0]['uri'], 'w').write"


class Spec:
    """Builds a pipeline file step by step."""

    def __init__(self):
        self.tree = {
            "pipelineInfo": {"name": "tiny"},
            "schemaVersion": "2.1.0",
            "root": {"dag": {"tasks": {}}},
            "components": {},
            "deploymentSpec": {"executors": {}},
        }

    def parameter(self, name, kind, **fields):
        """A parameter of the pipeline."""
        root = self.tree["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})
        root[name] = {"parameterType": kind, **fields}
        return self

    def step(self, name, code, *, inputs=(), after=(), parameters=None, kinds=None, args=("{{$}}",), **task):
        """A step that runs Python `code`; it has the output `out`, and an input for each step of `inputs`."""
        parameters, kinds = parameters or {}, kinds or {}
        artifact = {"artifactType": {"instanceSchema": "title: tfx.Model\n"}}
        self.tree["components"][name] = {
            "executorLabel": name,
            "inputDefinitions": {
                "artifacts": {one: artifact for one in inputs},
                "parameters": {key: {"parameterType": kinds.get(key, "STRING")} for key in parameters},
            },
            "outputDefinitions": {"artifacts": {"out": artifact}},
        }
        self.tree["deploymentSpec"]["executors"][name] = {
            "container": {"image": "none:1", "command": ["python", "-c", code], "args": list(args)}
        }
        self.tree["root"]["dag"]["tasks"][name] = {
            "componentRef": {"name": name},
            "dependentTasks": [*inputs, *after],
            "inputs": {
                "artifacts": {
                    one: {"taskOutputArtifact": {"producerTask": one, "outputArtifactKey": "out"}}
                    for one in inputs
                },
                "parameters": parameters,
            },
            **task,
        }
        return self

    def write(self, path):
        """Writes the file and returns its path."""
        path.write_text(yaml.safe_dump(self.tree))
        return path
