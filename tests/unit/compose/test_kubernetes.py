"""The manifests for Kubernetes are valid, and say the same as the configuration that they carry."""

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forebay.autoscaler.config import Config
from forebay.autoscaler.register import main as register
from forebay.core.config import from_mapping

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; `make dev` installs it")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed; `make dev` installs it")
validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed; see `make dev`")

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "compose" / "kubernetes"
VERSION = "1.37"
Manifest = Mapping[str, Any]
SCHEMA = json.loads((Path(__file__).parent / "scaledobject.schema.json").read_text())
INFERENCE = json.loads((Path(__file__).parent / "inference.schema.json").read_text())


def resources() -> list[Manifest]:
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [one for name in names for one in yaml.safe_load_all((FOLDER / name).read_text())]


def of_kind(kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in resources() if one["kind"] == kind}


SCALED = of_kind("ScaledObject")
POOLS = sorted(SCALED)


def config() -> Config:
    return from_mapping(Config, tomllib.loads((FOLDER / "forebay.toml").read_text())["autoscaler"], "autoscaler")


def autoscaler_of(scaled: Manifest) -> Manifest:
    """What KEDA makes of a ScaledObject for Kubernetes."""
    spec = scaled["spec"]
    (trigger,) = spec["triggers"]
    metric = {"name": "s0-instances_wanted", "selector": {"matchLabels": {"scaledobject.keda.sh/name": "x"}}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"keda-hpa-{scaled['metadata']['name']}"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]},
            "minReplicas": max(1, spec["minReplicaCount"]),
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": [
                {
                    "type": "External",
                    "external": {"metric": metric, "target": {"type": trigger["metricType"], "averageValue": "1"}},
                }
            ],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }


def container(deployment: Manifest, name: str) -> Manifest:
    return next(one for one in deployment["spec"]["template"]["spec"]["containers"] if one["name"] == name)


def options(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words if word.startswith("--"))}


def test_every_manifest_is_named_by_the_kustomization() -> None:
    listed = {*yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"], "kustomization.yaml"}
    assert {path.name for path in FOLDER.glob("*.yaml")} == listed


@pytest.mark.parametrize("manifest", resources(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_every_manifest_keeps_to_its_schema(manifest: Manifest) -> None:
    if manifest["kind"] == "ScaledObject":
        jsonschema.validate(manifest, SCHEMA)
        validator.validate(autoscaler_of(manifest), VERSION, strict=True)
    elif manifest["kind"] in INFERENCE:
        jsonschema.validate(manifest, INFERENCE[manifest["kind"]])
    else:
        validator.validate(manifest, VERSION, strict=True)


def test_the_check_of_manifests_can_fail() -> None:
    broken = copy.deepcopy(dict(of_kind("Deployment")["smollm2"]))
    broken["spec"]["template"]["spec"]["container"] = []
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, VERSION, strict=True)
    scaled = copy.deepcopy(dict(SCALED["smollm2"]))
    scaled["spec"]["maxReplicas"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled, SCHEMA)
    behavior = autoscaler_of(copy.deepcopy(dict(SCALED["smollm2"])))
    behavior["spec"]["behavior"]["scaleUp"]["tolerances"] = "0"
    with pytest.raises(validator.ValidationError):
        validator.validate(behavior, VERSION, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("InferencePool", ["spec", "targetPort"], 8000),
        ("InferencePool", ["spec", "targetPorts"], [{"number": 0}]),
        ("InferencePool", ["spec", "endpointPickerRef"], {"kind": "Service", "name": "gateway"}),
        ("InferencePool", ["spec", "endpointPickerRef", "failureMode"], "FailOften"),
        ("Gateway", ["spec", "listeners", 0, "protocol"], "http"),
        ("HTTPRoute", ["spec", "rules", 0, "backendRefs", 0, "name"], "Not a name"),
        ("HTTPRoute", ["spec", "rules", 0, "timeouts", "request"], "half an hour"),
    ],
)
def test_the_check_of_the_inference_pool_can_fail(kind: str, path: list[Any], value: object) -> None:
    (manifest,) = of_kind(kind).values()
    broken: Any = copy.deepcopy(dict(manifest))
    *where, last = path
    part = broken
    for step in where:
        part = part[step]
    part[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, INFERENCE[kind])


def test_the_inference_pool_is_pods_that_register_where_they_speak_openai_s_protocol() -> None:
    (pool,) = of_kind("InferencePool").values()
    wanted = pool["spec"]["selector"]["matchLabels"].items()
    (port,) = (one["number"] for one in pool["spec"]["targetPorts"])
    chosen = [
        one for one in of_kind("Deployment").values() if wanted <= one["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert [one["metadata"]["name"] for one in chosen] == [pool["metadata"]["name"]]
    given = options(container(chosen[0], "register")["command"])
    assert given["--openai-address"] == f"$(POD_IP):{port}"


def test_the_inference_pool_asks_the_gateway_service_and_a_route_leads_to_it() -> None:
    (pool,) = of_kind("InferencePool").values()
    picker = pool["spec"]["endpointPickerRef"]
    ports = {one["port"]: one for one in of_kind(picker["kind"])[picker["name"]]["spec"]["ports"]}
    assert ports[picker["port"]["number"]]["appProtocol"] == "kubernetes.io/h2c"
    assert picker["failureMode"] == "FailClose"
    (route,) = of_kind("HTTPRoute").values()
    (backend,) = (one for rule in route["spec"]["rules"] for one in rule["backendRefs"])
    assert (backend["kind"], backend["name"]) == ("InferencePool", pool["metadata"]["name"])
    assert [one["name"] for one in route["spec"]["parentRefs"]] == list(of_kind("Gateway"))


@pytest.mark.parametrize("name", ["metrics", "predictor", "scheduler", "autoscaler", "gateway"])
def test_services_find_each_other_where_they_listen(name: str) -> None:
    services = of_kind("Service")
    given = {one["name"]: one.get("value", "") for one in container(of_kind("Deployment")[name], name)["env"]}
    for peer in ("SCHEDULER", "PREDICTOR", "AUTOSCALER", "METRICS"):
        address = given[f"FOREBAY_{peer}"]
        host, _, port = address.removeprefix("dns:").rpartition(":")
        assert int(port) in [one["port"] for one in services[host]["spec"]["ports"]]
        # A name stands for all pods only where it has no address of its own.
        assert (services[host]["spec"].get("clusterIP") == "None") == address.startswith("dns:")


def test_each_pool_that_keda_scales_has_one_scaled_object_with_its_bounds() -> None:
    pools = {model.pool_name: model for model in config().models if model.is_pulled}
    asked = {}
    for scaled in SCALED.values():
        (trigger,) = scaled["spec"]["triggers"]
        assert trigger["type"] in ("external", "external-push")
        asked[trigger["metadata"].get("pool", trigger["metadata"]["model"])] = scaled["spec"]
    assert set(asked) == set(pools)
    for name, spec in asked.items():
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == pools[name].instances_range


def test_only_a_pool_that_keda_is_pushed_for_starts_from_zero_at_once() -> None:
    for scaled in SCALED.values():
        from_zero = scaled["spec"]["minReplicaCount"] == 0
        assert (scaled["spec"]["triggers"][0]["type"] == "external-push") == from_zero


def test_keda_and_the_pods_ask_the_autoscaler_where_it_listens() -> None:
    service = of_kind("Service")["autoscaler"]
    port = next(one["port"] for one in service["spec"]["ports"] if one["name"] == "grpc")
    namespace = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["namespace"]
    environment = {
        one["name"]: one.get("value") for one in container(of_kind("Deployment")["autoscaler"], "autoscaler")["env"]
    }
    # Replicas find each other by this address.
    assert environment["FOREBAY_LISTEN"] == f"$(POD_IP):{port}"
    for name in POOLS:
        address = SCALED[name]["spec"]["triggers"][0]["metadata"]["scalerAddress"]
        assert address == f"autoscaler.{namespace}:{port}"
        beside = container(of_kind("Deployment")[SCALED[name]["spec"]["scaleTargetRef"]["name"]], "register")
        assert {"name": "FOREBAY_AUTOSCALER", "value": f"autoscaler:{port}"} in beside["env"]


@pytest.mark.parametrize("name", POOLS)
def test_a_pod_registers_as_its_pool_with_options_that_exist(name: str) -> None:
    (trigger,) = SCALED[name]["spec"]["triggers"]
    deployment = of_kind("Deployment")[SCALED[name]["spec"]["scaleTargetRef"]["name"]]
    given = options(container(deployment, "register")["command"])
    assert given["--model"] == trigger["metadata"]["model"]
    assert given.get("--pool", "") == trigger["metadata"].get("pool", "")
    assert set(given) <= {option for parameter in register.params for option in parameter.opts}
    ports = {one["name"]: one["containerPort"] for one in container(deployment, "triton")["ports"]}
    assert given["--address"] == f"$(POD_IP):{ports['grpc']}"
    assert given["--metrics-url"] == f"http://$(POD_IP):{ports['metrics']}/metrics"


@pytest.mark.parametrize("name", POOLS)
def test_a_pod_has_the_time_to_drain_and_triton_waits_for_it(name: str) -> None:
    deployment = of_kind("Deployment")[SCALED[name]["spec"]["scaleTargetRef"]["name"]]
    given = options(container(deployment, "register")["command"])
    grace_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > float(given["--drain-timeout"])
    hook = " ".join(container(deployment, "triton")["lifecycle"]["preStop"]["exec"]["command"])
    assert re.search(rf"-f {given['--done']}\b", hook)
    mounts = [
        {one["name"]: one["mountPath"] for one in container(deployment, of)["volumeMounts"]}
        for of in ("triton", "register")
    ]
    assert all(Path(given["--done"]).parent == Path(mount["drain"]) for mount in mounts)
    assert "replicas" not in deployment["spec"]
