"""The files in examples/cluster: their formats, their commands, and the batch script as it runs."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.slurm import Slurm, end
from tests.tuning.test_run import TINY
from tunekit.verb_args import SubmitArgs
from tunekit.verbs import arguments
from tunekit.words import parse

CLUSTER = Path(__file__).parent.parent / "examples" / "cluster"
SLURM = CLUSTER / "slurm.sh"
TEXTS = ("README.md", "vms.yaml", "kuberay.yaml", "slurm.sh")

# What of ray.io/v1 (KubeRay 1.5.1 and later) kuberay.yaml may use: names and what they hold, as published.
FIELDS: dict[str, dict[str, Any]] = {
    "RayJob": {"apiVersion": str, "kind": str, "metadata": dict, "spec": "RayJobSpec"},
    "RayJobSpec": {
        "entrypoint": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "submissionMode": str,
        "rayClusterSpec": "RayClusterSpec",
    },
    "RayClusterSpec": {
        "rayVersion": str,
        "authOptions": "AuthOptions",
        "headGroupSpec": "HeadGroupSpec",
        "workerGroupSpecs": ["WorkerGroupSpec"],
    },
    "AuthOptions": {"mode": str},
    "HeadGroupSpec": {"rayStartParams": dict, "template": dict},
    "WorkerGroupSpec": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": dict,
    },
}


def vms() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "vms.yaml").read_text())


def kuberay() -> tuple[dict[str, Any], dict[str, Any]]:
    claim, job = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    return claim, job


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def commands() -> list[tuple[str, str]]:
    """Every command of tunekit that the texts name, with the file that names it; the batch script tunes."""
    found = []
    for name in TEXTS:
        text = (CLUSTER / name).read_text().replace("\\\n", " ")
        text = re.sub(r" \.\.\.\n#? +\.\.\. ", " ", text)  # a command that goes on in the next line
        text = re.sub(r"\bsbatch \S+slurm\.sh", "tunekit tune", text)
        for verb, rest in re.findall(r"\btunekit (tune|train|val|submit)((?: [a-z_]+(?:=[^\s`]*)?)+)", text):
            found.append((name, f"{verb}{rest}"))
    return found


def test_the_vms_file_is_what_rays_launcher_takes():
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = util.prepare_config(vms())  # as `ray up` does: with its defaults
    util.validate_config(config)  # against ray-schema.json
    broken = {**config, "worker_setup_command": []}
    with pytest.raises(Exception, match="worker_setup_command"):
        util.validate_config(broken)


def test_the_vms_are_all_there_from_the_start_and_alike():
    config = vms()
    types = config["available_node_types"]
    workers = {name: kind for name, kind in types.items() if name != config["head_node_type"]}
    # A search counts the nodes when it begins.
    assert sum(kind["min_workers"] for kind in workers.values()) == config["max_workers"]
    assert all(kind["min_workers"] == kind["max_workers"] for kind in workers.values())
    assert len({kind["node_config"]["ImageId"] for kind in types.values()}) == 1
    mounts = config["file_mounts"]
    assert mounts["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("pip install" in line and "~/tunekit" in line for line in config["setup_commands"])
    assert "/home/ubuntu/tunekit" in mounts
    before = "\n".join(config["initialization_commands"])
    assert "mount -t nfs4" in before
    assert "RAY_AUTH_MODE=token" in before
    for when in ("initialization", "setup", "head_setup", "head_start_ray", "worker_start_ray"):
        for line in config[f"{when}_commands"]:
            subprocess.run(["bash", "-n", "-c", line], check=True)


def check_fields(kind: str, given: dict[str, Any]) -> None:
    """Every field is one of `kind` and holds what it should; recursively."""
    assert set(given) <= set(FIELDS[kind]), f"{kind} has no {set(given) - set(FIELDS[kind])}"
    for name, value in given.items():
        wanted = FIELDS[kind][name]
        if isinstance(wanted, str):
            check_fields(wanted, value)
        elif isinstance(wanted, list):
            for entry in value:
                check_fields(wanted[0], entry)
        else:
            assert type(value) is wanted, f"{kind}.{name} = {value!r}"
        if name == "rayStartParams":
            assert all(isinstance(text, str) for text in value.values()), f"{kind}.{name} = {value}"


def test_the_rayjob_has_the_fields_of_a_rayjob():
    claim, job = kuberay()
    check_fields("RayJob", job)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert job["spec"]["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert job["spec"]["rayClusterSpec"]["authOptions"]["mode"] == "token"
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert job["spec"]["backoffLimit"] == 0
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_all_pods_of_the_rayjob_have_the_shared_disk_and_what_they_count_on():
    claim, job = kuberay()
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(job):
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        volumes = {volume.pop("name"): volume for volume in map(dict, pod["volumes"])}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounts["/shared"] == {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
    assert len({pod["containers"][0]["image"] for pod in pods(job)}) == 1
    assert "nvidia.com/gpu" in pods(job)[-1]["containers"][0]["resources"]["limits"]


def test_the_entrypoint_of_the_rayjob_is_a_search_on_the_shared_disk():
    _, job = kuberay()
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:5] == ["python", "-u", "-m", "tunekit", "tune"]
    args = arguments("tune", parse("tune", words[5:]))
    assert args.project.startswith("/shared/")
    assert args.data.startswith("/shared/")
    assert args.address is None, "the job's own cluster: Ray names it"


@pytest.mark.parametrize(("file", "command"), commands())
def test_every_command_that_is_named_can_be_typed(file, command):
    verb, *words = shlex.split(command)
    given = parse(verb, words)
    args = arguments(verb, given)
    if verb == "submit" and isinstance(args, SubmitArgs) and args.job is not None:
        inner, *rest = shlex.split(args.job)
        args = arguments(inner, parse(inner, rest))
        where = args.resume or args.project
        assert where.startswith("/shared/"), f"{file}: a job's results need an absolute path"


def test_the_texts_name_commands():
    assert {file for file, _ in commands()} == set(TEXTS)
    assert {command.split()[0] for _, command in commands()} >= {"tune", "submit"}


def test_the_batch_script_is_one_that_bash_can_read():
    subprocess.run(["bash", "-n", SLURM], check=True)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, SLURM], check=True)
    assert os.access(SLURM, os.X_OK)
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SLURM.read_text(), flags=re.MULTILINE))
    assert asked["signal"].startswith("B:USR1@")  # to the shell only
    assert "requeue" in asked
    assert asked["ntasks-per-node"] == "1"


# In the place of python and ray: a search that lasts until it is told to end, on a head that only listens.
PYTHON = """
import json, os, pathlib, signal, sys, time
if sys.argv[1] == "-":  # wait for so many nodes
    while len(open(os.environ["FAKE_STEPS"]).readlines()) < int(sys.argv[3]):
        time.sleep(0.05)
if sys.argv[1] == "-u":
    with open("searches", "a") as log:
        log.write(json.dumps([sys.argv[2:], os.environ.get("RAY_ADDRESS")]) + "\\n")
    if os.environ.get("FAKE_CODE"):
        sys.exit(int(os.environ["FAKE_CODE"]))
    def interrupted(number, frame):
        sys.exit(130)
    signal.signal(signal.SIGTERM, interrupted)
    print("searching", flush=True)
    time.sleep(60)
"""
RAY = """
import socket, sys, time
assert sys.argv[1] == "start"
options = dict(word[2:].partition("=")[::2] for word in sys.argv[2:])
if "head" in options:
    listening = socket.create_server((options["node-ip-address"], int(options["port"])))
time.sleep(60)
"""


@pytest.fixture
def slurm(tmp_path):
    slurm = Slurm(tmp_path / "slurm")
    slurm.add("python", PYTHON)
    slurm.add("ray", RAY)
    return slurm


def read_until(job: subprocess.Popen[str], words: str) -> None:
    said = ""
    for line in job.stdout:
        said += line
        if words in line:
            return
    raise AssertionError(f"{words!r} was not said:\n{said}")


def searches(folder: Path) -> list[str]:
    return (folder / "searches").read_text().splitlines()


def test_a_batch_job_that_is_out_of_time_ends_its_search_and_is_queued_anew(slurm, tmp_path):
    project = tmp_path / "runs"
    job = slurm.start(SLURM, "epochs=3", cwd=tmp_path, PROJECT=str(project), RAY_ADDRESS="elsewhere:1")
    try:
        read_until(job, "searching")
        head, worker = slurm.steps
        job.send_signal(signal.SIGUSR1)
        job.communicate(timeout=30)
    finally:
        end(job)
    assert slurm.queued_anew() == f"requeue {slurm.job}"
    address = f"127.0.0.1:{20000 + slurm.job % 10000}"
    name = f"tunekit-{slurm.job}"
    words = f'"tune", "project={project}", "name={name}", "epochs=3", "address={address}"'
    assert searches(tmp_path) == [f'[["-m", "tunekit", {words}], null]']
    # One head on the first node, a worker on each other one, all with the token of this job.
    assert (head.options["nodelist"], head.options["ntasks"]) == ("n1", "1")
    assert (worker.options["exclude"], worker.options["ntasks"]) == ("n1", "1")
    assert {"--head", "--node-ip-address=127.0.0.1", "--block", "--num-cpus=1"} <= set(head.words)
    assert {f"--address={address}", "--block", "--num-cpus=1"} <= set(worker.words)
    assert head.token == worker.token
    assert len(head.token) == 64
    # When it is started once more it goes on with its own run.
    (project / name).mkdir(parents=True)
    (project / name / "args.yaml").touch()
    again = slurm.start(SLURM, "epochs=3", cwd=tmp_path, PROJECT=str(project), FAKE_CODE="0")
    again.communicate(timeout=30)
    assert again.returncode == 0
    assert (
        f'["-m", "tunekit", "tune", "resume={project / name}", "address={address}"]' in searches(tmp_path)[1]
    )
    assert slurm.steps[-1].token != head.token
    assert slurm.queued_anew() is None


def test_a_batch_job_whose_search_fails_or_is_cancelled_is_not_queued_anew(slurm, tmp_path):
    failed = slurm.start(SLURM, "resume=/x", cwd=tmp_path, FAKE_CODE="2")
    failed.communicate(timeout=30)
    assert failed.returncode == 2
    assert '"tune", "resume=/x", "address=' in searches(tmp_path)[0]
    cancelled = slurm.start(SLURM, cwd=tmp_path)
    try:
        read_until(cancelled, "searching")
        cancelled.terminate()
        cancelled.communicate(timeout=30)
    finally:
        end(cancelled)
    assert cancelled.returncode == 130
    assert slurm.queued_anew() is None


def test_a_batch_job_whose_head_does_not_come_up_says_so(slurm, tmp_path):
    slurm.add("ray", "raise SystemExit(1)")
    job = slurm.start(SLURM, cwd=tmp_path)
    said, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    assert f"error: Ray's head did not come up on n1; see ray-{slurm.job}.log" in said


@pytest.mark.slow
def test_a_batch_job_searches_on_all_its_nodes_and_goes_on_after_it_was_queued_anew(tmp_path):
    slurm, project = Slurm(tmp_path / "slurm"), tmp_path / "runs"
    words = [f"{name}={value}" for name, value in {**TINY, "epochs": 40, "iterations": 2}.items()]
    run = project / f"tunekit-{slurm.job}"
    job = slurm.start(SLURM, *words, cwd=tmp_path, PROJECT=str(project))
    try:
        read_until(job, "2 trials of 40 epochs, 2 trials at a time on 1 CPU core each")
        rows = run / "trials" / "0" / "results.csv"
        deadline = time.monotonic() + 90
        while not (rows.exists() and len(rows.read_text().splitlines()) > 3):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        job.send_signal(signal.SIGUSR1)
        said, _ = job.communicate(timeout=90)
    finally:
        end(job)
    assert f"interrupted; go on with: tunekit tune resume={run.relative_to(tmp_path)}" in said
    assert slurm.queued_anew() == f"requeue {slurm.job}"
    before = rows.read_text().splitlines()
    assert len(before) < 41
    again = slurm.start(SLURM, *words, cwd=tmp_path, PROJECT=str(project))
    try:
        said, _ = again.communicate(timeout=200)
    finally:
        end(again)
    assert again.returncode == 0, said
    assert slurm.queued_anew() is None
    with (run / "tune_results.csv").open() as table:
        assert [row["state"] for row in csv.DictReader(table)] == ["COMPLETE"] * 2
    # It goes on: seconds and all stay, but for an epoch that was written down and not yet in last.pt.
    whole = len(before) - 1
    assert rows.read_text().splitlines()[:whole] == before[:whole]
    assert [folder.name for folder in project.iterdir()] == [run.name]
    assert not Path(f"/tmp/ray-{slurm.job}").exists()
