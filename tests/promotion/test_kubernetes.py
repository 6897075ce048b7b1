"""Manifests: valid, sized by what was measured, and the old version whole during a canary."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import records
import yaml
from kubernetes_schemas import SCHEMAS
from small import ROOT

from calib.errors import ConfigError, StoreError
from calib.promotion.kubernetes import open_target
from calib.promotion.kubernetes.facts import object_name
from calib.promotion.kubernetes.settings import KubernetesSpec
from calib.promotion.package import Package, PackedFile
from calib.promotion.target import TargetOptions
from calib.results import RunVerdict, Verdict

PVC = "pvc://models/triton"
MIB = 2**20
SESSION = b'{"model": "model.onnx", "threads": 2}'


def package(name="mini_lm", content=b"weights", engine=None, **changes):
    model = PackedFile.of("model.onnx", content)
    files = [model, PackedFile.of("session.json", SESSION)]
    latency = records.latency(2.0).model_copy(update={"threads": 2})
    values = {
        "model_sha256": model.sha256,
        "latency": (latency,),
        "peak_memory_bytes": 300 * MIB,
        "engines": (),
    }
    if engine is not None:
        plan = PackedFile.of("e.plan", b"plan")
        files.append(plan)
        built = records.engine(backend="tensorrt", plan_sha256=plan.sha256, ran_here=engine)
        values["engines"] = (built,)
    candidate = records.candidate(**{**values, **changes})
    verdict = RunVerdict(verdict=Verdict.PASS, chosen=candidate.name, reason="", candidates=())
    result = records.run(records.fp32(), candidate)
    return Package(name, result, candidate, verdict, ("worsened_pct_max",), Path(), tuple(files))


def target(folder, version=None, **settings):
    fields = {"repository": PVC, **settings}
    query = "&".join(f"{key}={value}" for key, value in fields.items())
    return open_target(f"{folder}?{query}", TargetOptions(version=version))


def promoted(folder, what=None, version=None, **settings):
    what = what or package()
    target(folder, version, **settings).promote(what)
    text = (Path(folder) / f"{object_name(what.name)}.yaml").read_text(encoding="utf-8")
    found = list(yaml.safe_load_all(text))
    return {(d["kind"], d["metadata"]["name"]): d for d in found}


def pod(deployment):
    return deployment["spec"]["template"]["spec"]


def version_of(deployment):
    return deployment["metadata"]["annotations"]["calib/version"]


WAYS = {
    "triton": {},
    "all settings": {
        "namespace": "serving",
        "replicas": 3,
        "gateway": "edge",
        "service_account": "reader",
        "pull_secret": "ngc",
        "monitor_labels": "{release: prometheus}",
    },
    "from a bucket": {"repository": "s3://bucket/models/{version}"},
    "kserve": {"kind": "kserve", "repository": "gs://bucket/{name}/{version}"},
    "kserve canary": {
        "kind": "kserve",
        "repository": "pvc://models/{version}",
        "canary_pct": 10,
        "mode": "Serverless",
        "service_account": "reader",
        "pull_secret": "ngc",
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", [None, True])
def test_every_object_is_one_that_its_schema_takes(tmp_path, way, engine):
    found = promoted(tmp_path, package(engine=engine), **WAYS[way])
    if WAYS[way].get("kind") != "kserve":
        other = package(content=b"others", engine=engine)
        found |= promoted(tmp_path, other, **WAYS[way], canary_pct=20)
    assert found
    for (kind, _), document in found.items():
        if kind in SCHEMAS:
            jsonschema.validate(document, SCHEMAS[kind])
        else:
            for kubernetes in ("1.31", kubernetes_validate.latest_version()):
                kubernetes_validate.validate(document, kubernetes, strict=True)
        assert list(document) == ["apiVersion", "kind", "metadata", "spec"]


def test_a_pod_gets_what_was_measured(tmp_path):
    # Two threads, and two instances on the four cores of the machine that measured.
    found = promoted(tmp_path / "cpu", instances=2)
    (server,) = pod(found["Deployment", "mini-lm"])["containers"]
    amounts = {"cpu": "4", "memory": f"{64 * 18}Mi"}  # 2 x 300 and 512 MiB, in steps of 64
    assert server["resources"] == {"requests": amounts, "limits": amounts}
    found = promoted(tmp_path / "gpu", package(engine=True))
    (server,) = pod(found["Deployment", "mini-lm"])["containers"]
    assert server["resources"]["limits"] == {"cpu": "1", "memory": "832Mi", "nvidia.com/gpu": "1"}


@pytest.mark.parametrize(
    ("changes", "settings", "problem"),
    [
        ({"peak_memory_bytes": None}, {}, "memory_mb: is needed: the run did not measure"),
        ({}, {"canary_pct": 10}, "canary_pct: needs a version that serves now"),
    ],
)
def test_what_was_not_measured_is_asked_for(tmp_path, changes, settings, problem):
    with pytest.raises(ConfigError, match=problem):
        target(tmp_path, **settings).promote(package(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ['a"}', "a b", "../a", "-a", "", "a" * 129])
def test_a_name_that_triton_does_not_serve_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="--name: is no name that Triton serves"):
        target(tmp_path).plan(package(name=name))


@pytest.mark.parametrize("track", ["stable", "canary"])
def test_nobody_is_root_and_only_volumes_are_written(tmp_path, track):
    promoted(tmp_path)
    found = promoted(tmp_path, package(content=b"other"), canary_pct=10)
    name = "mini-lm" if track == "stable" else "mini-lm-canary"
    inside = pod(found["Deployment", name])
    assert inside["securityContext"]["runAsNonRoot"] is True
    assert inside["automountServiceAccountToken"] is False
    mounted = {v["name"] for v in inside["volumes"]}
    for container in (*inside["containers"], *inside["initContainers"]):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {m["name"] for m in container["volumeMounts"]} <= mounted
    (server,) = inside["containers"]
    probes = [server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")]
    assert probes == ["/v2/health/ready", "/v2/health/live"]


def test_the_objects_belong_together(tmp_path):
    promoted(tmp_path, gateway="edge")
    found = promoted(tmp_path, package(content=b"other"), gateway="edge", canary_pct=10)
    labels = {
        name: d["spec"]["template"]["metadata"]["labels"]
        for (kind, name), d in found.items()
        if kind == "Deployment"
    }

    def selected(selector):
        return {n for n, own in labels.items() if selector.items() <= own.items()}

    for (kind, name), document in found.items():
        if kind == "Deployment":
            assert selected(document["spec"]["selector"]["matchLabels"]) == {name}
    services = {n: d for (kind, n), d in found.items() if kind == "Service"}
    assert {n: selected(d["spec"]["selector"]) for n, d in services.items()} == {
        "mini-lm": {"mini-lm", "mini-lm-canary"},
        "mini-lm-to-stable": {"mini-lm"},
        "mini-lm-to-canary": {"mini-lm-canary"},
    }
    monitor = found["ServiceMonitor", "mini-lm"]["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    # One Service, so that no pod is counted twice.
    assert [n for n, d in services.items() if wanted <= d["metadata"]["labels"].items()] == [
        "mini-lm"
    ]
    ports = {port["name"] for port in services["mini-lm"]["spec"]["ports"]}
    assert monitor["endpoints"][0]["port"] in ports
    (rule,) = found["HTTPRoute", "mini-lm"]["spec"]["rules"]
    weights = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
    assert weights == {"mini-lm-to-stable": 90, "mini-lm-to-canary": 10}
    assert weights.keys() <= services.keys()


@pytest.mark.parametrize(
    ("replicas", "percent", "pods"), [(2, 10, 1), (9, 10, 1), (4, 50, 4), (6, 25, 2), (1, 99, 99)]
)
def test_a_canary_by_pods_has_the_nearest_share_and_takes_none_away(
    tmp_path, replicas, percent, pods
):
    promoted(tmp_path, replicas=replicas)
    other = package(content=b"other")
    found = promoted(tmp_path, other, replicas=replicas, canary_pct=percent)
    assert found["Deployment", "mini-lm"]["spec"]["replicas"] == replicas
    assert found["Deployment", "mini-lm-canary"]["spec"]["replicas"] == pods
    shares = [abs(n / (n + replicas) - percent / 100) for n in range(1, 200)]
    assert abs(1 + shares.index(min(shares)) - pods) <= 1


def test_a_canary_leaves_the_old_version_as_it_is_and_is_taken_back_or_on(tmp_path):
    one, two = package(), package(content=b"other")
    before = promoted(tmp_path, one)
    path = tmp_path / "mini-lm.yaml"
    first = path.read_bytes()
    beside = promoted(tmp_path, two, canary_pct=10)
    for key in (("Deployment", "mini-lm"), ("PrometheusRule", "mini-lm")):
        assert beside[key] == before[key]
    assert version_of(beside["Deployment", "mini-lm-canary"]) == "2"
    alerts = beside["PrometheusRule", "mini-lm-canary"]["spec"]["groups"][0]["rules"]
    assert all('version="2"' in alert["expr"] for alert in alerts)
    # Back: the old package once more is the old file, to the byte.
    promoted(tmp_path, one)
    assert path.read_bytes() == first
    # On: the same number for the same package, and one Deployment.
    promoted(tmp_path, two, canary_pct=10)
    after = promoted(tmp_path, two)
    assert version_of(after["Deployment", "mini-lm"]) == "2"
    assert ("Deployment", "mini-lm-canary") not in after
    three = promoted(tmp_path, package(content=b"third"))
    assert version_of(three["Deployment", "mini-lm"]) == "3"


def test_another_canary_takes_the_place_of_the_first(tmp_path):
    promoted(tmp_path)
    promoted(tmp_path, package(content=b"second"), canary_pct=10)
    found = promoted(tmp_path, package(content=b"third"), canary_pct=10)
    assert version_of(found["Deployment", "mini-lm"]) == "1"
    assert version_of(found["Deployment", "mini-lm-canary"]) == "3"


def test_what_serves_already_is_no_canary_of_itself(tmp_path):
    promoted(tmp_path)
    with pytest.raises(ConfigError, match="this very package serves all requests already"):
        target(tmp_path, canary_pct=10).plan(package())


@pytest.mark.parametrize("way", WAYS)
def test_once_more_changes_nothing_and_a_plan_writes_nothing(tmp_path, way):
    settings = WAYS[way]
    there = target(tmp_path / "a", **settings)
    said = there.plan(package())
    assert said
    assert not (tmp_path / "a").exists()
    assert there.promote(package()) == said
    (path,) = (tmp_path / "a").iterdir()
    first, changed = path.read_bytes(), path.stat().st_mtime_ns
    assert there.plan(package()) == there.promote(package()) == ()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (first, changed)
    target(tmp_path / "b", **settings).promote(package())
    assert (tmp_path / "b" / path.name).read_bytes() == first


def alerts_of(found, kind="PrometheusRule"):
    (document,) = [d for (k, _), d in found.items() if k == kind]
    (group,) = document["spec"]["groups"]
    return {alert["alert"]: alert for alert in group["rules"]}


def test_alerts_are_promql_with_the_measured_limits(tmp_path):
    found = alerts_of(promoted(tmp_path, package(name="odd.Name"), latency_slack_pct=25))
    assert set(found) == {f"CalibModel{what}" for what in ("Fails", "Gone", "Slow", "Waits")}
    limits = {}
    for name, alert in found.items():
        expression = promql_parser.parse(alert["expr"])
        selectors = []

        def walk(node, kept=selectors):
            if isinstance(node, promql_parser.VectorSelector):
                kept.append({m.name: m.value for m in node.matchers.matchers})
            for part in ("lhs", "rhs", "expr", "vector_selector"):
                if getattr(node, part, None) is not None:
                    walk(getattr(node, part))
            for argument in getattr(node, "args", ()) or ():
                walk(argument)

        walk(expression)
        assert selectors
        for matchers in selectors:
            assert (matchers["model"], matchers["version"]) == ("odd.Name", "1")
        if isinstance(expression, promql_parser.BinaryExpr):
            limits[name] = expression.rhs.val
    # 2 ms at the median are 2.4 ms at p99 in these records.
    assert limits == {
        "CalibModelFails": 0.01,
        "CalibModelSlow": pytest.approx(2400 * 1.25),
        "CalibModelWaits": pytest.approx(2400),
    }
    assert "a cpu" in found["CalibModelSlow"]["annotations"]["summary"]


@pytest.mark.parametrize(
    "changes",
    [
        {"latency": (records.latency(2.0, runs=50).model_copy(update={"p99_ms": None}),)},
        {"latency": ()},
        {"emulated": True},
        {"engine": False},
    ],
    ids=["no p99", "not timed", "emulated", "an engine that did not run"],
)
def test_no_limit_on_latency_comes_from_what_was_not_measured(tmp_path, changes):
    there = target(tmp_path)
    said = there.promote(package(**changes))
    assert any("no alert on latency" in line for line in said)
    found = yaml.safe_load_all((tmp_path / "mini-lm.yaml").read_text(encoding="utf-8"))
    rules = {(d["kind"], d["metadata"]["name"]): d for d in found}
    assert set(alerts_of(rules)) == {"CalibModelFails", "CalibModelGone"}


def repository(folder, what, version, model=None):
    """A version as `--to triton:` lays it out."""
    place = folder / "triton" / what.name / str(version)
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(what.model.source if model is None else model)
    (place / "model_card.md").write_text("# Card", encoding="utf-8")
    (place / "config.pbtxt").write_text(f"version {version}", encoding="utf-8")
    warmup = folder / "triton" / what.name / "warmup" / str(version)
    warmup.mkdir(parents=True)
    (warmup / "x").write_bytes(b"batch")


def fetched(found, folder):
    """Run what a pod runs before its server, with folders of ours for its volumes."""
    (fetch,) = pod(found["Deployment", "mini-lm"])["initContainers"]
    models = folder / "models"
    models.mkdir()
    (script,) = fetch["args"]
    script = script.replace("/repository", str(folder)).replace("/models", str(models))
    environment = {e["name"]: e["value"] for e in fetch["env"]}
    done = subprocess.run(
        [*fetch["command"], script],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    files = {
        p.relative_to(models).as_posix(): p.read_bytes() for p in models.rglob("*") if p.is_file()
    }
    return done, files


def test_a_pod_takes_its_own_version_out_of_the_repository(tmp_path):
    found = promoted(tmp_path / "k8s", version=2)
    repository(tmp_path, package(), 2)
    repository(tmp_path, package(content=b"newer"), 3)
    (tmp_path / "triton" / "mini_lm" / "config.pbtxt").write_text("version 3", encoding="utf-8")
    done, files = fetched(found, tmp_path)
    assert done.returncode == 0, done.stderr
    assert files == {
        "mini_lm/2/model.onnx": b"weights",
        "mini_lm/2/model_card.md": b"# Card",
        "mini_lm/2/config.pbtxt": b"version 2",
        "mini_lm/config.pbtxt": b"version 2",
        "mini_lm/warmup/2/x": b"batch",
    }


@pytest.mark.parametrize("harm", [b"other weights", b""])
def test_a_pod_does_not_serve_what_was_not_judged(tmp_path, harm):
    found = promoted(tmp_path / "k8s", version=2)
    repository(tmp_path, package(), 2, model=harm)
    done, _ = fetched(found, tmp_path)
    assert done.returncode != 0
    assert hashlib.sha256(harm).hexdigest() in done.stderr


def test_a_pod_does_not_serve_a_version_without_a_model(tmp_path):
    found = promoted(tmp_path / "k8s", version=2)
    repository(tmp_path, package(), 2)
    (tmp_path / "triton" / "mini_lm" / "2" / "model.onnx").unlink()
    done, _ = fetched(found, tmp_path)
    assert done.returncode == 1
    assert "no model in" in done.stderr


def test_the_script_is_shell_without_a_fault(tmp_path):
    (fetch,) = pod(promoted(tmp_path)["Deployment", "mini-lm"])["initContainers"]
    done = subprocess.run(
        # The variables come from the container's environment.
        [Path(sys.executable).with_name("shellcheck"), "--shell=sh", "--exclude=SC2154", "-"],
        input="".join(fetch["args"]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("minilm", "minilm"),
        ("Mini_LM", "mini-lm"),
        ("2d", "model-2d-"),
        ("a.b", "a-b-"),
        ("数", "model-"),
        ("x" * 200, "x" * 41 + "-"),
    ],
)
def test_names_are_dns_labels_and_unlike_names_stay_unlike(model, name):
    found = object_name(model)
    assert found.startswith(name)
    assert len(found) + len("-to-canary") <= 63
    assert found.isascii()
    assert found[0].isalpha()
    assert found == found.lower().strip("-")
    if name.endswith("-"):
        assert found != object_name(f"{model}!")


def test_who_it_is_stands_on_every_pod(tmp_path):
    found = promoted(tmp_path)
    about = found["Deployment", "mini-lm"]["spec"]["template"]["metadata"]["annotations"]
    assert about["calib/model-sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert about["calib/run-id"] == "20260101-000000-000-abcdef"
    assert about["calib/verdict"] == "PASS"
    assert about["calib/waived"] == "worsened_pct_max"


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        ("kind: ConfigMap\nmetadata: {name: x}\n", "holds what calib did not write"),
        ("- a\n", "holds no manifests"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path, there, problem):
    path = tmp_path / "mini-lm.yaml"
    path.write_text(there, encoding="utf-8")
    with pytest.raises(StoreError, match=problem):
        target(tmp_path).promote(package())
    assert path.read_text(encoding="utf-8") == there


def test_a_file_holds_one_model(tmp_path):
    target(tmp_path / "served.yaml").promote(package())
    for name in ("other", "mini-lm"):
        with pytest.raises(StoreError, match="holds another model"):
            target(tmp_path / "served.yaml").promote(package(name=name))


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "does not say where pods find the Triton repository"),
        ("repository=/models", "repository is no pvc://CLAIM/FOLDER"),
        ("repository=s3://bucket/models", r"repository needs \{version\}"),
        ("repository=pvc://Claim/x", "the claim's name"),
        ("repository=hdfs://host/x/{version}", "Triton reads pvc, s3, gs, as, not hdfs"),
        ("kind=kserve&repository=pvc://claim/x", r"repository needs \{version\}"),
        ("repository=pvc://claim/x&canary_pct=0", "canary_pct 0 is no canary"),
        (
            "kind=kserve&repository=s3://b/{version}&canary_pct=9",
            "canary_pct needs mode: Serverless",
        ),
        ("kind=kserve&repository=s3://b/{version}&image=a.b:5/c@sha256:0", "KServe needs its tag"),
        ("repository=pvc://claim/x&replica=2", "unknown key; did you mean replicas"),
        ("repository=pvc://claim/x&image=tritonserver", "image: "),
        ("settings=a.yaml&settings=b.yaml", "is no place"),
        ("settings=gone.yaml", "there is no such file"),
    ],
)
def test_a_wrong_setting_is_told(query, problem):
    with pytest.raises(ConfigError, match=problem):
        open_target(f"deploy?{query}", TargetOptions())


def test_settings_come_from_a_file_and_the_command_line_wins(tmp_path):
    settings = tmp_path / "serving.yaml"
    settings.write_text("repository: pvc://claim/x\nreplicas: 3\nnamespace: a\n", encoding="utf-8")
    place = f"{tmp_path / 'k8s'}?settings={settings}&replicas=5"
    open_target(place, TargetOptions()).promote(package())
    found = yaml.safe_load_all((tmp_path / "k8s" / "mini-lm.yaml").read_text(encoding="utf-8"))
    (deployment,) = [d for d in found if d["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 5
    assert deployment["metadata"]["namespace"] == "a"


def test_kserve_splits_requests_only_where_it_can(tmp_path):
    settings = WAYS["kserve canary"]
    found = promoted(tmp_path, **settings)
    service = found["InferenceService", "mini-lm"]
    mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
    assert mode == "Serverless"
    assert service["spec"]["predictor"]["canaryTrafficPercent"] == 10
    model = service["spec"]["predictor"]["model"]
    assert model["storageUri"] == "pvc://models/1"
    assert model["runtimeVersion"] == "25.10-py3"
    # Knative refuses a pod's: it has to be the container's.
    assert "securityContext" not in service["spec"]["predictor"]
    assert model["securityContext"]["runAsNonRoot"] is True
    assert "Deployment" not in {kind for kind, _ in found}


def test_the_document_has_every_setting_and_its_examples_are_valid(tmp_path):
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| .* \| .*\|$", page, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told >= set(KubernetesSpec.model_fields)
    assert not {n for n in told if n.islower()} - set(KubernetesSpec.model_fields)
    files = []
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(block, encoding="utf-8")
    places = set(re.findall(r'"kubernetes:(deploy[^"…]*)"', page))
    assert len(files) == 2
    assert len(places) == 2
    for place in places:
        for file in files:
            open_target(place.replace("serving.yaml", str(file)), TargetOptions(version=2))
