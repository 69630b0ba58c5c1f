"""The product on a real cluster, end to end, with example memories: `make demo` and `make demo-down`.

It needs no Python package. Each command that a person could type is shown before its output. The exit code is 0 when
both requests ended Complete.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scripts import image
from tests.cluster import access
from tests.cluster.access import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.progress import say, step

REPOSITORY = Path(__file__).parent.parent
NAMESPACE = "rae-demo"
RELEASE = "rae-tasks"
REQUESTS = ("graph-extraction-request", "reflection-request")
WAIT_SECONDS = 600
# The strongest facts, each with the sentence it was read from.
TRIPLES = """
SELECT s.label AS subject, e.relation, t.label AS object, (e.properties ->> 'confidence')::numeric(3, 2) AS confidence,
       left(regexp_replace(e.properties -> 'evidence' -> 0 ->> 'text', '\\s+', ' ', 'g'), 72) AS evidence
FROM knowledge_graph_edges AS e
JOIN knowledge_graph_nodes AS s ON s.id = e.source_node_id
JOIN knowledge_graph_nodes AS t ON t.id = e.target_node_id
WHERE e.project = 'ai-research'
ORDER BY confidence DESC, subject, relation, object
LIMIT 8
"""
REFLECTION = """
SELECT content
FROM reflections
WHERE project = 'ai-research'
ORDER BY created_at DESC, score DESC
LIMIT 1
"""
WIDTH = 140


@dataclass(frozen=True)
class Demo:
    """The running demo: its cluster, and helm to install into it."""

    cluster: Cluster
    helm: Path

    def call(self, program: Path, *words: str, text: str | None = None) -> str:
        """Run it and return its output. Raises ClusterError with what it said when it fails."""
        environment = self.cluster.environment()
        done = subprocess.run([str(program), *words], env=environment, input=text, text=True, capture_output=True, cwd=REPOSITORY)
        if done.returncode:
            raise ClusterError(f"{program.name} {' '.join(words[:4])} failed:\n{done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def kubectl(self, *words: str, text: str | None = None) -> str:
        return self.call(self.cluster.kubectl, "--namespace", NAMESPACE, *words, text=text)

    def show(self, *words: str) -> None:
        """A kubectl command and its output, as a person would see them."""
        print(f"\n$ kubectl -n {NAMESPACE} {' '.join(words)}", flush=True)
        print(self.kubectl(*words).rstrip(), flush=True)


def up() -> int:
    """Install everything, run one request of each kind, and show what came of them."""
    demo = prepare()
    install(demo)
    phases = run_requests(demo)
    show_results(demo)
    print(farewell())
    failed = {name: phase for name, phase in phases.items() if phase != "Complete"}
    for name, phase in failed.items():
        say(f"error: {name} ended {phase or 'in no phase'}; see: kubectl -n {NAMESPACE} describe {name}")
    return 1 if failed else 0


def prepare() -> Demo:
    """A cluster, the images in it, and helm; what does not need the other is made at the same time."""
    version = access.wanted_version()
    with ThreadPoolExecutor(max_workers=2) as pool:
        starting = pool.submit(access.up, version)
        building = pool.submit(_build_images_and_helm)
        cluster, helm = starting.result(), building.result()
    for name in _images(cluster):
        for tag in image.IMAGES[name].tags:
            access.load(tag)
    return Demo(cluster, helm)


def _build_images_and_helm() -> Path:
    for name in image.IMAGES:
        image.build(name)
    return access.helm()


def _images(cluster: Cluster) -> tuple[str, ...]:
    # kind pulls the public PostgreSQL and Valkey; elsewhere there is no registry to pull from.
    return ("rae-tasks",) if cluster.by_kind else ("rae-tasks", "demo-data")


def install(demo: Demo) -> None:
    """Install the chart with its demo database and the example memories, or bring an earlier demo up to date."""
    settings = {"image.repository": "localhost/rae-tasks", "image.tag": "dev", "demo.enabled": "true"}
    # The tag stays the same over builds; this makes an upgrade start the new one.
    settings[r"pods.annotations.dev\.rae\.tasks/inputs"] = image.current_key("rae-tasks")
    if not demo.cluster.by_kind:
        postgres, valkey = image.IMAGES["demo-data"].tags
        settings |= {"demo.postgres.image": postgres, "demo.valkey.image": valkey}
    words = [
        word for name, value in settings.items() for word in ("--set-string" if "annot" in name else "--set", f"{name}={value}")
    ]
    _clear_unfinished(demo)
    command = ["upgrade", "--install", RELEASE, "charts/rae-tasks", "--namespace", NAMESPACE, "--create-namespace"]
    with step("helm upgrade --install rae-tasks charts/rae-tasks --set demo.enabled=true"):
        demo.call(demo.helm, *command, "--wait", "--timeout", "10m", *words)


def _clear_unfinished(demo: Demo) -> None:
    """Remove a release whose installation was cut off: helm neither goes on with it nor starts over by itself."""
    listed = json.loads(demo.call(demo.helm, "list", "--namespace", NAMESPACE, "--output", "json"))
    for found in listed:
        if found["name"] == RELEASE and found["status"] != "deployed":
            say(f"an earlier installation is {found['status']}: removing it")
            demo.call(demo.helm, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def run_requests(demo: Demo) -> dict[str, str]:
    """Apply both requests, wait for their end, and return the phase of each."""
    files = [f"examples/requests/{name}.yaml" for name in REQUESTS]
    arguments = [word for file in files for word in ("-f", file)]
    # Those of an earlier demo have ended, and what has ended never starts again.
    demo.kubectl("delete", "--ignore-not-found", *arguments)
    demo.show("apply", *arguments)
    with step("kubectl wait --for=condition=Finished"):
        demo.kubectl("wait", "--for=condition=Finished", f"--timeout={WAIT_SECONDS}s", *arguments)
    found = json.loads(demo.kubectl("get", *arguments, "--output=json"))["items"]
    return {f"{each['kind'].lower()}/{each['metadata']['name']}": each.get("status", {}).get("phase", "") for each in found}


def show_results(demo: Demo) -> None:
    """What a person looks at: the requests, the facts with their evidence, the reflection, and what a decay would do."""
    demo.show("get", "rae")
    print("\n# The strongest facts, each with the sentence it was read from")
    print(query(demo, TRIPLES))
    print("\n# The reflection")
    print(_wrapped(query(demo, REFLECTION, "--tuples-only", "--no-align")))
    # The memories are of today; what there is to see comes with the night.
    tonight = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}T02:00Z"
    print(f"\n# rae-jobctl decay --dry-run --slot {tonight}")
    print(dry_run(demo, "decay", "--slot", tonight))


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in text.splitlines())


def query(demo: Demo, sql: str, *options: str) -> str:
    """Ask the demo's database as its user, inside its pod."""
    psql = ["psql", "--host=127.0.0.1", "--username=rae", "--dbname=rae", "--pset=footer=off"]
    script = 'PGPASSWORD="$POSTGRES_PASSWORD" exec "$@"'
    pod = f"statefulset/{RELEASE}-demo-postgres"
    command = [*psql, *options, "--command", sql]
    return demo.kubectl("exec", pod, "--", "sh", "-c", script, "sh", *command).rstrip()


def dry_run(demo: Demo, task: str, *options: str) -> str:
    """Run a periodic task now, as its CronJob would, but without writing; return what it said."""
    name = f"{task}-dry-run"
    created = demo.kubectl("create", "job", name, f"--from=cronjob/{RELEASE}-{task}", "--dry-run=client", "--output=json")
    job: dict[str, Any] = json.loads(created)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [*container["args"], "--dry-run", *options]
    job["spec"]["backoffLimit"] = 0
    demo.kubectl("delete", "job", name, "--ignore-not-found")
    demo.kubectl("create", "-f", "-", text=json.dumps(job))
    # Terminal either way: a failure is shown, not waited for.
    demo.kubectl("wait", "--for=jsonpath={.status.conditions[0].status}=True", "--timeout=180s", f"job/{name}")
    return demo.kubectl("logs", f"job/{name}").rstrip()


def farewell() -> str:
    """What to try next, and how to end it."""
    return f"""
The demo is up. Try next:
  eval "$(python3 -m tests.cluster env)"                       # kubectl and helm of this cluster
  kubectl config set-context --current --namespace={NAMESPACE}
  kubectl get rae                                              # the requests and how they stand
  kubectl describe gxr extract-ai-research                     # one request, its conditions and events
  kubectl apply -f examples/requests/wrong-tenant-request.yaml # a mistake, and what the request says of it
  kubectl get cronjobs                                         # what runs by itself, and when
  helm get notes {RELEASE}
End it:
  make demo-down"""


def down() -> int:
    """End the cluster, and the demo with it."""
    access.down()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m scripts.demo", description=__doc__)
    parser.add_argument("command", choices=("up", "down"), nargs="?", default="up")
    options = parser.parse_args()
    try:
        return up() if options.command == "up" else down()
    except ClusterError as error:
        say(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
