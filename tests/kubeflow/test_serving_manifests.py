"""The manifests under kubeflow/serving: real fields, matching labels and ports, flags that exist, nothing privileged."""

import argparse
import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli
from serving import check_health
from serving.server_options import ServerOptions
from tests.kubeflow.kubernetes_schema import as_sent, deserialised, model_of, problems

FOLDER = Path(__file__).parents[2] / "kubeflow" / "serving"
README = (FOLDER / "README.md").read_text()


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def everything() -> list[Any]:
    return [
        pytest.param(document, id=f"{path.name}-{document['kind']}-{document['metadata']['name']}")
        for path in sorted(FOLDER.glob("*.yaml"))
        for document in documents(path.name)
    ]


@pytest.mark.parametrize("document", everything())
def test_every_object_is_what_the_kubernetes_api_knows(document: dict[str, Any]) -> None:
    kind = model_of(document)
    assert problems(document, kind, document["kind"]) == []
    read = deserialised(document, kind)
    assert read.metadata.name == document["metadata"]["name"]
    # Nothing was lost on the way: what the client would send is what is written.
    assert as_sent(read) == document


@pytest.mark.parametrize("kind", ["V1Probe", "V2MetricSpec"])
def test_what_the_readme_offers_instead_is_what_the_kubernetes_api_knows(kind: str) -> None:
    found = re.search(rf"<!-- {kind} -->\n```yaml\n(.*?)```", README, re.DOTALL)
    assert found
    piece = yaml.safe_load(found[1])
    assert problems(piece, kind, kind) == []
    assert as_sent(deserialised(piece, kind)) == piece


def test_a_field_that_is_not_there_is_found_and_so_is_a_wrong_type_and_a_missing_field() -> None:
    deployment = copy.deepcopy(the("tandem.yaml", "Deployment"))
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    assert problems(deployment, "V1Deployment", "Deployment") == [
        "Deployment.spec.template.spec.containers[0].readinesProbe: V1Container has no such field"
    ]
    deployment = copy.deepcopy(the("tandem.yaml", "Deployment"))
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "30"
    (problem,) = problems(deployment, "V1Deployment", "Deployment")
    assert problem.endswith("terminationGracePeriodSeconds: '30' is no int")
    del deployment["spec"]["selector"]
    with pytest.raises(ValueError, match="selector"):
        deserialised(deployment, "V1Deployment")


def the(name: str, kind: str, called: str = "") -> dict[str, Any]:
    (one,) = (
        document
        for document in documents(name)
        if document["kind"] == kind and called in ("", document["metadata"]["name"])
    )
    return one


SERVERS = ["tandem.yaml", "tensorflow-serving.yaml"]


def pod(name: str) -> dict[str, Any]:
    return the(name, "Deployment")["spec"]["template"]


def container(name: str) -> dict[str, Any]:
    (one,) = pod(name)["spec"]["containers"]
    return one


def ports(name: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(name)["ports"]}


def given(name: str) -> dict[str, str]:
    """Flag -> value, of the container's arguments."""
    flags = [word for word in container(name)["args"] if word.startswith("--")]
    return dict(flag.lstrip("-").split("=", 1) for flag in flags)


@pytest.mark.parametrize("name", SERVERS)
def test_selectors_find_the_pods_and_no_others(name: str) -> None:
    labels = pod(name)["metadata"]["labels"]
    selectors = [the(name, "Deployment")["spec"]["selector"]["matchLabels"]]
    for document in documents(name):
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            selectors.append(spec["selector"])
        if document["kind"] == "PodDisruptionBudget":
            selectors.append(spec["selector"]["matchLabels"])
        if document["kind"] == "NetworkPolicy":
            selectors.append(spec["podSelector"]["matchLabels"])
    assert len(selectors) >= 4
    for selector in selectors:
        assert selector.items() <= labels.items()
        others = [pod(other)["metadata"]["labels"] for other in SERVERS if other != name]
        assert not any(selector.items() <= other.items() for other in others)


def test_the_autoscaler_scales_the_deployment_which_does_not_count_its_pods_itself() -> None:
    deployment, scaler = (
        the("tandem.yaml", "Deployment"),
        the("tandem.yaml", "HorizontalPodAutoscaler")["spec"],
    )
    target = {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert scaler["scaleTargetRef"] == target
    assert "replicas" not in deployment["spec"]
    # A share of the request is what CPU utilisation is measured in.
    assert "cpu" in container("tandem.yaml")["resources"]["requests"]


@pytest.mark.parametrize("name", SERVERS)
def test_services_and_the_network_policy_lead_to_ports_that_are_served(name: str) -> None:
    served = ports(name)
    for document in documents(name):
        if document["kind"] == "Service":
            for port in document["spec"]["ports"]:
                assert served[port["targetPort"]] == port["port"]
    let_in = {
        port["port"] for rule in the(name, "NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]
    }
    assert let_in == set(served.values())


def test_the_servers_listen_on_the_ports_they_declare() -> None:
    tandem, stock = given("tandem.yaml"), given("tensorflow-serving.yaml")
    assert ports("tandem.yaml") == {
        "grpc": int(tandem["port"]),
        "rest": int(tandem["rest-port"]),
        "metrics": int(tandem["metrics-port"]),
    }
    assert pod("tandem.yaml")["metadata"]["annotations"]["prometheus.io/port"] == tandem["metrics-port"]
    assert ports("tensorflow-serving.yaml") == {
        "grpc": int(stock["port"]),
        "rest": int(stock["rest_api_port"]),
    }


@pytest.mark.parametrize("name", SERVERS)
def test_probes_ask_served_ports(name: str) -> None:
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container(name)[kind]
        asked = next(iter({"tcpSocket", "httpGet"} & probe.keys()), None)
        if asked:
            assert probe[asked]["port"] in ports(name).values()
    assert container("tensorflow-serving.yaml")["readinessProbe"]["httpGet"]["path"] == "/v1/models/retrieval"


def test_readiness_asks_health_over_the_tls_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = container("tandem.yaml")["readinessProbe"]
    python, dash_m, module, *words = probe["exec"]["command"]
    assert (python, dash_m, module) == ("python", "-m", check_health.__name__)
    asked = []
    monkeypatch.setattr(check_health, "check_health", lambda *what: asked.append(what) or "SERVING")
    assert check_health.main(words) == 0
    ((address, security, seconds),) = asked
    assert address == f"127.0.0.1:{given('tandem.yaml')['port']}"
    assert Path(security.ca_file).parent == Path(given("tandem.yaml")["tls-cert"]).parent
    assert seconds < probe["timeoutSeconds"]


def serve_parser() -> argparse.ArgumentParser:
    (commands,) = (a for a in cli._parser([])._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices["serve"]


def test_the_flags_are_tandem_serves_and_it_would_start_with_them() -> None:
    one = container("tandem.yaml")
    assert one["command"] == ["tandem"] and one["args"][0] == "serve"
    parsed = vars(serve_parser().parse_args(one["args"][1:]))
    fields = ServerOptions.__dataclass_fields__
    options = ServerOptions(**{k: v for k, v in parsed.items() if k in fields and v is not None})
    assert not options.insecure
    assert options.tls_cert and options.tls_key and options.tokens


def test_a_flag_that_tandem_serve_has_not_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve_parser().parse_args([*container("tandem.yaml")["args"][1:], "--tls-certificate=x"])
    assert "--tls-certificate" in capsys.readouterr().err


@pytest.mark.parametrize("name", SERVERS)
def test_every_file_that_is_named_is_mounted_and_nothing_but_tmp_can_be_written(name: str) -> None:
    mounts = {mount["name"]: mount for mount in container(name)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(name)["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    assert {key for key, mount in mounts.items() if not mount.get("readOnly")} == {"tmp"}
    assert volumes["models"]["persistentVolumeClaim"]["readOnly"]
    folders = {mount["mountPath"] for mount in mounts.values()}
    named = [value for value in given(name).values() if value.startswith("/")]
    assert named and {str(Path(value).parent) for value in named} <= folders
    config_map = the("tandem.yaml", "ConfigMap")
    assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]
    in_config = [Path(value) for value in named if str(Path(value).parent) == mounts["config"]["mountPath"]]
    assert {path.name for path in in_config} <= config_map["data"].keys()


@pytest.mark.parametrize("name", SERVERS)
def test_nothing_runs_as_root_or_may_become_it(name: str) -> None:
    whole, one = pod(name)["spec"], container(name)
    assert whole["securityContext"]["runAsNonRoot"] and whole["securityContext"]["runAsUser"] > 0
    assert whole["automountServiceAccountToken"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", SERVERS)
def test_a_pod_gets_the_time_to_drain(name: str) -> None:
    _, seconds = container(name)["lifecycle"]["preStop"]["exec"]["command"]
    assert pod(name)["spec"]["terminationGracePeriodSeconds"] >= int(seconds) + 10


def test_both_configurations_are_of_the_mounted_push_directory_and_the_canary_s_labels_are_served(
    tmp_path: Path,
) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container("tandem.yaml")["volumeMounts"]}
    plain, canary = the("tandem.yaml", "ConfigMap"), the("canary.yaml", "ConfigMap")
    assert plain["metadata"]["name"] == canary["metadata"]["name"]
    assert plain["data"]["batching.config"] == canary["data"]["batching.config"]
    for config_map in (plain, canary):
        text = config_map["data"]["models.config"]
        assert re.findall(r'name: "(.*)"', text) == ["retrieval"]
        assert re.findall(r'base_path: "(.*)"', text) == [mounts["models"]]
        assert text.count("{") == text.count("}")
    text = canary["data"]["models.config"]
    labels = dict(re.findall(r'version_labels { key: "(\w+)" value: (\d+) }', text))
    assert set(labels) == {"stable", "canary"}
    assert set(labels.values()) == set(re.findall(r"versions: (\d+)", text))
