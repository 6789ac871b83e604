"""The Serve config of the RayService, deployed on a Ray of this machine as KubeRay does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from forkdiv.core.errors import UserError
from forkdiv.sample.engine_settings import EngineSpec
from jobs.serve import application
from tests.jobs.conftest import free_port
from tests.stack import clean_environment

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "cluster" / "serve" / "rayservice.yaml"
RAY, SERVE = (str(Path(sys.executable).with_name(name)) for name in ("ray", "serve"))
KEY = "a-long-random-text"


def config() -> dict[str, Any]:
    manifest = yaml.safe_load(MANIFEST.read_text())
    serve_config: dict[str, Any] = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    return serve_config


def ask(url: str, body: dict[str, Any] | None = None, key: str = KEY) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        reply: dict[str, Any] = json.load(answer)
    return reply


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": ["graph-d3-l3"]}, "unknown argument: got checkpoint"),
        ({"checkpoints": []}, "serve needs a checkpoint"),
        ({"settings": ["place.rot=/shared"]}, "place.rot"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORKDIV_API_KEY", KEY)
    with pytest.raises(UserError, match=message):
        application(arguments)


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORKDIV_API_KEY", raising=False)
    with pytest.raises(UserError, match="FORKDIV_API_KEY is not set"):
        application({"checkpoints": ["graph-d3-l3"]})


def test_an_engine_that_only_serves_keeps_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKDIV_API_KEY", KEY)
    specs: list[EngineSpec] = []
    monkeypatch.setattr("forkdiv.sample.http.application", lambda spec, *_: specs.append(spec))
    settings = ["place.engine.while_training=stop"]
    application({"checkpoints": ["graph-d3-l3"], "settings": settings})
    assert [spec.config.while_training for spec in specs] == ["beside"]


@pytest.mark.stack
def test_the_service_answers_with_its_key_only(tmp_path: Path) -> None:
    gcs, dashboard, agent, port = (free_port() for _ in range(4))
    changed = config()
    changed["http_options"] |= {"host": "127.0.0.1", "port": port}
    (app,) = changed["applications"]
    app["args"]["settings"] = [f"place.root={tmp_path}"]
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(changed))
    environment = clean_environment() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "FORKDIV_API_KEY": KEY,
    }
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
            *(f"--dashboard-agent-listen-port={agent}", "--disable-usage-stats"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        deploy(file, f"http://127.0.0.1:{dashboard}", environment)
        url = f"http://127.0.0.1:{port}/v1"
        wait_until_served(url, head)
        (name,) = app["args"]["checkpoints"]
        assert [model["id"] for model in ask(f"{url}/models")["data"]] == [name]
        body = {"model": name, "prompt": [1, 2, 3], "max_tokens": 4, "n": 2}
        assert len(ask(f"{url}/completions", body)["choices"]) == 2
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(f"{url}/completions", body, key="another")
    finally:
        head.terminate()
        try:
            head.wait(timeout=60)
        except subprocess.TimeoutExpired:
            head.kill()


def deploy(file: Path, dashboard: str, environment: dict[str, str]) -> None:
    """Sends the config until the dashboard and its agent take it."""
    for _ in range(60):
        done = subprocess.run(
            [SERVE, "deploy", "--address", dashboard, str(file)],
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(done.stdout + done.stderr)


def wait_until_served(url: str, head: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 280
    while not is_served(url):
        assert head.poll() is None, "Ray ended"
        assert time.monotonic() < deadline, "not served after 280 s"
        time.sleep(1)


def is_served(url: str) -> bool:
    try:
        ask(f"{url}/models")
    except (OSError, ValueError):  # no port yet, or Serve's own 404
        return False
    return True
