"""The Kubernetes manifests against KubeRay's own definitions, unknown fields refused.

The definitions (3 MB for each version) are not part of this repository. FORKDIV_KUBERAY_CRDS names
a folder of them: ray-operator/config/crd/bases of a KubeRay release.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CRDS = os.environ.get("FORKDIV_KUBERAY_CRDS")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not CRDS, reason="FORKDIV_KUBERAY_CRDS names no folder of definitions"),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


def strict(schema: Any) -> Any:
    """The schema without fields that it does not name, as `kubectl apply --validate=strict`."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items() if key != "description"}
    if isinstance(schema.get("properties"), dict):
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
        result["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
    if schema.get("x-kubernetes-int-or-string"):
        result = {"type": ["integer", "string"]}
    return result


@cache
def definition(kind: str) -> Any:
    """The strict schema of a kind; `apiVersion` and `metadata` are Kubernetes' own."""
    path = Path(str(CRDS)) / f"ray.io_{kind.lower()}s.yaml"
    versions = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = (entry["schema"]["openAPIV3Schema"] for entry in versions if entry["name"] == "v1")
    return strict(schema)


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", ROOT / "cluster" / overlay],
        check=True,
        capture_output=True,
        text=True,
    )
    return [
        document
        for document in yaml.safe_load_all(done.stdout)
        if document["apiVersion"] == "ray.io/v1"
    ]


def check(document: dict[str, Any]) -> None:
    body = {key: value for key, value in document.items() if key != "metadata"}
    jsonschema.validate(body, definition(document["kind"]))


@pytest.mark.parametrize("overlay", ["base", "gpu", "serve"])
def test_kuberay_knows_every_field(overlay: str) -> None:
    documents = rendered(overlay)
    assert documents
    for document in documents:
        check(document)


@pytest.mark.parametrize("where", [("spec",), ("spec", "headGroupSpec", "template", "spec")])
def test_an_unknown_field_is_found(where: tuple[str, ...]) -> None:
    (document,) = (one for one in rendered("base") if one["kind"] == "RayCluster")
    document = yaml.safe_load(yaml.safe_dump(document))
    node = document
    for key in where:
        node = node[key]
    node["replicass"] = 1
    with pytest.raises(jsonschema.ValidationError, match="replicass"):
        check(document)
