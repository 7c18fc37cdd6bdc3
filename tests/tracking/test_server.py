"""deploy/server.py as a team uses it: MLflow with PostgreSQL and users, over HTTP; nobody sees what is not theirs.

PostgreSQL's programs and the extra `server` are needed; what is not there is skipped.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT, ROUNDS, has_postgresql, train_py, wait_for
from mlflow.tracking import MlflowClient

from shrinkage.training.ranks import free_port

pytestmark = [
    pytest.mark.xdist_group("server"),
    pytest.mark.skipif(
        find_spec("flask_wtf") is None or not has_postgresql(),
        reason="needs the extra `server`, and PostgreSQL's programs",
    ),
]

SERVER = str(ROOT / "deploy" / "server.py")


FREE = 5  # wrong logins that are answered at once


@dataclass
class Server:
    folder: Path
    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self.folder / "run.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, SERVER, "run", str(self.folder)], stdout=log, stderr=log, start_new_session=True
        )
        wait_for(lambda: self.process.poll() is not None or self.status("/health") == 200, 120)
        assert self.process.poll() is None, (self.folder / "run.log").read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def kill(self) -> None:
        """All of MLflow's processes, at once; PostgreSQL is none of them."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def user(self, name: str) -> dict[str, str]:
        """The environment of a new one."""
        words = called("user", self.folder, name).removeprefix("export ").split()
        return dict(word.split("=", 1) for word in words) | {"MLFLOW_TRACKING_URI": self.uri}

    def status(
        self, path: str, user: dict[str, str] | None = None, content: object = None, method: str | None = None
    ) -> int:
        """What a bare request is answered with."""
        return self.answer(path, user, content, method)[0]

    def answer(
        self, path: str, user: dict[str, str] | None = None, content: object = None, method: str | None = None
    ) -> tuple[int, str]:
        """The same, with the answer's text."""
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.uri + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        if user is not None:
            login = f"{user['MLFLOW_TRACKING_USERNAME']}:{user['MLFLOW_TRACKING_PASSWORD']}"
            request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


def called(*arguments: object) -> str:
    done = subprocess.run([sys.executable, SERVER, *map(str, arguments)], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def made(folder: Path) -> Server:
    found = Server(folder, free_port())
    called("init", folder, "--port", found.port, "--database-port", free_port())
    return found


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """A folder that PostgreSQL's user gets through; into those of pytest nobody does when another pytest has begun."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def server(shelf: Path) -> Iterator[Server]:
    found = made(shelf / "team")
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def ann(server: Server) -> dict[str, str]:
    return server.user("ann")


@pytest.fixture(scope="module")
def bob(server: Server) -> dict[str, str]:
    return server.user("bob")


def tracked(folder: Path, user: dict[str, str], *overrides: str) -> subprocess.CompletedProcess:
    common = ("tracking=server", "tracking.experiment=anns", "data=diabetes", "trainer.max_epochs=3")
    return train_py(*common, *overrides, cwd=folder, store=folder / "none.db", **user)


@pytest.fixture(scope="module")
def run_id(server: Server, ann: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    done = tracked(tmp_path_factory.mktemp("ann"), ann, "lambd=0.1")
    assert done.returncode == 0, done.stderr
    assert ann["MLFLOW_TRACKING_PASSWORD"] not in done.stdout + done.stderr
    return done.stdout.split("Run ")[1].split(":")[0]


def reading(run: str) -> list[tuple[str, dict | None]]:
    """Requests that show something, or write it: of the tracking API, the artifacts and the users."""
    api = "/api/2.0/mlflow"
    return [
        (f"{api}/runs/get?run_id={run}", None),
        (f"{api}/metrics/get-history?run_id={run}&metric_key=val/loss", None),
        (f"{api}/artifacts/list?run_id={run}", None),
        (f"/get-artifact?path=config.yaml&run_uuid={run}", None),
        (f"/api/2.0/mlflow-artifacts/artifacts/1/{run}/artifacts/config.yaml", None),
        (f"{api}/runs/log-metric", {"run_id": run, "key": "val/loss", "value": 0, "timestamp": 1}),
        (f"{api}/runs/set-tag", {"run_id": run, "key": "mine", "value": "now"}),
        (f"{api}/runs/delete", {"run_id": run}),
        (f"{api}/users/create", {"username": "eve", "password": "eve eve eve eve"}),
    ]


def test_nobody_sees_or_writes_anything_without_a_login(server: Server, run_id: str) -> None:
    for path, content in [*reading(run_id), ("/api/2.0/mlflow/experiments/search?max_results=5", None), ("/", None)]:
        assert server.status(path, None, content) == 401, path
    wrong = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "no password"}
    assert server.status(f"/api/2.0/mlflow/runs/get?run_id={run_id}", wrong) == 401


def test_a_user_without_permission_sees_and_writes_nothing_of_it(
    server: Server, run_id: str, ann: dict[str, str], bob: dict[str, str], tmp_path: Path
) -> None:
    assert server.status(f"/api/2.0/mlflow/runs/get?run_id={run_id}", ann) == 200
    for path, content in reading(run_id):
        assert server.status(path, bob, content) == 403, path
    done = tracked(tmp_path, bob, "lambd=0.2")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "does not let you use this experiment" in done.stderr
    stranger = bob | {"MLFLOW_TRACKING_PASSWORD": "wrong wrong wrong"}
    done = tracked(tmp_path, stranger, "lambd=0.2")
    assert done.returncode == 1 and "does not know you" in done.stderr and "wrong wrong" not in done.stderr


CREATE = "/api/2.0/mlflow/experiments/create"


def test_nobody_says_where_files_lie(server: Server, run_id: str, bob: dict[str, str]) -> None:
    """Neither in another's folder nor anywhere on the server, in an experiment or a trace, however it is spelled."""
    folder = server.folder / "artifacts" / "of somebody"
    folder.mkdir()
    (folder / "traces.json").write_text('{"spans": []}')
    places = ["mlflow-artifacts:/1", str(server.folder / "artifacts" / "1"), folder.as_uri(), "/etc", "s3://bucket/x"]
    for number, place in enumerate(places):
        assert server.status(CREATE, bob, {"name": f"bobs {number}", "artifact_location": place}) == 403, place
    asked = {"name": "bobs", "artifactLocation": "/etc"}
    for path in (CREATE, CREATE.replace("/api", "/ajax-api")):
        code, words = server.answer(path, bob, asked)
        assert code == 403 and "this server says itself where files lie" in words
        assert server.status(path, bob, json.dumps(asked)) == 403  # MLflow reads JSON within JSON
    code, words = server.answer(CREATE, bob, {"name": "bobs", "artifact_location": ""})
    assert code == 200
    begun = {"experiment_id": json.loads(words)["experiment_id"], "timestamp_ms": 1}
    code, words = server.answer("/api/2.0/mlflow/traces", bob, begun)
    trace = json.loads(words)["trace_info"]["request_id"]
    tag = {"key": "mlflow.artifactLocation", "value": folder.as_uri()}
    for version in ("2.0", "3.0"):
        assert server.status(f"/api/{version}/mlflow/traces/{trace}/tags", bob, tag, "PATCH") == 403
        assert server.status(f"/api/{version}/mlflow/traces/{trace}/tags", bob, tag | {"key": "mine"}, "PATCH") == 200
    assert server.status(f"/ajax-api/2.0/mlflow/get-trace-artifact?request_id={trace}", bob) == 404


def test_wrong_logins_are_slowed_down(server: Server, run_id: str, bob: dict[str, str]) -> None:
    """Over one connection, and so to one process of the server, which nobody has told a wrong password of fay's."""
    fay = server.user("fay")
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)

    def ask(name: str, password: str, method: str, path: str) -> int:
        login = b64encode(f"{name}:{password}".encode()).decode()
        connection.request(method, path, headers={"Authorization": f"Basic {login}"})
        response = connection.getresponse()
        response.read()
        return response.status

    run = ("GET", f"/api/2.0/mlflow/runs/get?run_id={run_id}")
    right = {user["MLFLOW_TRACKING_USERNAME"]: user["MLFLOW_TRACKING_PASSWORD"] for user in (fay, bob)}
    assert ask("fay", right["fay"], *run) == 403
    for request in (run, ("POST", "/v1/traces")):
        for name in ("fay", "no such user"):
            answers = [ask(name, f"guess {number}", *request) for number in range(40)]
            assert answers[:FREE] == [401] * FREE and set(answers) == {401, 429}
            assert answers.count(429) > 40 - FREE - 6  # as many more are let in within half a minute
    assert ask("fay", right["fay"], *run) == 403  # nobody's guesses keep out a login that was right before
    assert ask("bob", right["bob"], *run) == 403  # who is somebody else
    connection.close()


def test_what_mlflow_leaves_open_is_what_the_page_says(server: Server, run_id: str, bob: dict[str, str]) -> None:
    code, words = server.answer("/api/2.0/mlflow/users/list", bob)
    users = {user["username"]: user for user in json.loads(words)["users"]}
    assert code == 200 and {"admin", "ann", "bob"} <= users.keys() and not users["ann"]["roles"]
    code, words = server.answer(CREATE, bob, {"name": "anns"})
    assert code == 400 and "RESOURCE_ALREADY_EXISTS" in words


def test_guesses_come_further_and_further_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One a second: five are answered, then those after 1, 2, 4, … 60 seconds; in the end all is forgotten."""
    monkeypatch.syspath_prepend(ROOT / "deploy" / "guard")
    import guard

    wrong, who = guard.WrongLogins(), ("10.0.0.1", "ann")
    tried = [second for second in range(1000) if not wrong.wait(who, 1000.0 + second)]
    assert tried[:FREE] == list(range(FREE)) and guard.FREE == FREE
    apart = [later - sooner for sooner, later in pairwise(tried[FREE - 1 :])]
    assert apart[:7] == [1, 2, 4, 8, 16, 32, 60] and set(apart[6:]) == {60}
    assert wrong.wait(("10.0.0.2", "ann"), 2000.0) == wrong.wait(("10.0.0.1", "bob"), 2000.0) == 0
    assert wrong.wait(who, 1000.0 + tried[-1] + 1) > 0
    assert not wrong.wait(who, 1000.0 + tried[-1] + guard.FORGOTTEN_SECONDS + 1)
    for second in range(100):  # right ones are not counted
        assert not wrong.wait(("10.0.0.3", "ann"), float(second))
        wrong.take_back(("10.0.0.3", "ann"))


def test_a_user_changes_the_own_password(server: Server) -> None:
    cara = server.user("cara")
    changed = {"username": "cara", "password": "a new password", "current_password": cara["MLFLOW_TRACKING_PASSWORD"]}
    assert server.status("/api/2.0/mlflow/users/update-password", cara, changed, "PATCH") == 200
    cara["MLFLOW_TRACKING_PASSWORD"] = "a new password"
    assert server.status("/api/2.0/mlflow/users/current", cara) == 200


def test_another_host_name_is_refused(server: Server) -> None:
    request = urllib.request.Request(
        f"{server.uri}/api/2.0/mlflow/experiments/search", headers={"Host": "evil.example"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 403


def test_one_beside_a_database_elsewhere_is_what_the_container_runs(
    server: Server, run_id: str, ann: dict[str, str], bob: dict[str, str], tmp_path: Path
) -> None:
    settings, port = json.loads((server.folder / "settings.json").read_text()), free_port()
    place = {"PORT": str(port), "DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": str(settings["database_port"])}
    words = {name.upper(): settings[name] for name in ("database_password", "admin_password", "secret_key")}
    command = [sys.executable, SERVER, "serve", str(tmp_path)]
    refused = subprocess.run(command, env=os.environ | place, capture_output=True, text=True)
    assert refused.returncode == 1 and "DATABASE_PASSWORD, ADMIN_PASSWORD, SECRET_KEY must be set" in refused.stderr
    process = subprocess.Popen(command, env=os.environ | place | words, start_new_session=True)
    try:
        second = Server(tmp_path, port)
        wait_for(lambda: process.poll() is not None or second.status("/health") == 200, 120)
        for path, content in reading(run_id)[:3]:
            assert [second.status(path, user, content) for user in (ann, bob, None)] == [200, 403, 401]
        assert second.user("dora")["MLFLOW_TRACKING_USERNAME"] == "dora"
        assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "settings.json", tmp_path / "auth.ini"))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def sweep(folder: Path, user: dict[str, str], experiment: str) -> subprocess.Popen:
    """Eight lanes that keep every point of four hundred epochs."""
    lambdas = ",".join(str(number / 100) for number in range(1, 9))
    command = [sys.executable, str(ROOT / "train.py"), "-m", "hydra/launcher=lanes", "tracking=server"]
    command += [f"tracking.experiment={experiment}", "data=diabetes", "trainer.max_epochs=400", "tracking.history=all"]
    return subprocess.Popen(
        [*command, f"lambd={lambdas}"],
        cwd=folder,
        env=os.environ | user,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def courses(client: MlflowClient, experiment: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By λ every point of every metric of a sweep's runs, all FINISHED, without its time."""
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    points = {
        run.data.params["lambd"]: {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        for run in children
    }
    assert len(children) == len(points) == 8
    return points


@pytest.fixture
def as_ann(ann: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in ann.items():
        monkeypatch.setenv(key, value)


@pytest.fixture(scope="module")
def undisturbed(
    server: Server, ann: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    running = sweep(tmp_path_factory.mktemp("undisturbed"), ann, "undisturbed")
    output, _ = running.communicate(timeout=280)
    assert running.returncode == 0, output
    with pytest.MonkeyPatch.context() as patch:
        for key, value in ann.items():
            patch.setenv(key, value)
        found = courses(MlflowClient(server.uri), "undisturbed")
    assert [step for step, _ in found["0.01"]["val/loss"]] == list(range(401))
    return found


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("fault", ["postgresql", "mlflow"])
def test_nothing_is_lost_where_a_part_is_restarted_under_load(
    fault: str,
    number: int,
    server: Server,
    ann: dict[str, str],
    undisturbed: dict[str, dict[str, list[tuple[int, float]]]],
    as_ann: None,
    tmp_path: Path,
) -> None:
    client, name = MlflowClient(server.uri), f"{fault} {number}"
    running = sweep(tmp_path, ann, name)
    # One is made before its maker has the permission to read it.
    wait_for(lambda: [each for each in client.search_experiments() if each.name == name], 120)
    experiment = client.get_experiment_by_name(name).experiment_id
    wait_for(lambda: len(client.search_runs([experiment])) > 3, 120)
    time.sleep(random.random())
    if fault == "postgresql":
        restart_postgresql(server)
    else:
        server.kill()
        time.sleep(2 * random.random())
        server.start()
    output, _ = running.communicate(timeout=280)
    assert running.returncode == 0, output
    # A sweep waits some seconds for a store that is away; its writer goes on for a minute.
    wait_for(lambda: {run.info.status for run in client.search_runs([experiment])} == {"FINISHED"}, 90)
    assert courses(client, name) == undisturbed


def restart_postgresql(server: Server) -> None:
    """As if it had crashed."""
    settings = json.loads((server.folder / "settings.json").read_text())
    options = f"-p {settings['database_port']} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "deploy"))
        import server as deployed
    deployed.postgres("pg_ctl", "restart", "--mode=immediate", f"--pgdata={server.folder / 'postgres'}", "-o", options)


def test_a_backup_becomes_another_server(
    server: Server, run_id: str, ann: dict[str, str], bob: dict[str, str], shelf: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backup.tar"
    called("backup", server.folder, file)
    assert file.stat().st_mode & 0o077 == 0
    other = made(shelf / "other")
    called("restore", other.folder, file)
    other.start()
    try:
        for path, content in reading(run_id)[:5]:
            assert other.status(path, ann, content) == 200, path
            assert other.status(path, bob, content) == 403, path
        assert other.user("cleo")["MLFLOW_TRACKING_USERNAME"] == "cleo"
    finally:
        other.stop()


def test_what_cannot_be_done_is_refused_in_one_line_and_nothing_is_touched(
    server: Server, run_id: str, ann: dict[str, str], shelf: Path, tmp_path: Path
) -> None:
    file, place = tmp_path / "backup.tar", str(server.folder)
    file.write_text("of last week")
    called("init", shelf / "taken", "--port", server.port, "--database-port", free_port())
    for command, words in {
        ("run", place): "is being run by another process; stop that one first",
        ("run", str(shelf / "taken")): f"port {server.port} is taken by another program",
        ("run", str(tmp_path)): "is no server's folder; make one with",
        ("init", place): "is not empty",
        ("user", place, "ann"): "MLflow refuses the user ann (there is one of this name); give another name",
        ("backup", place, str(file)): "is there already; give another name",
        ("restore", place, str(file)): "has been used; make a new one with init",
    }.items():
        refused = subprocess.run([sys.executable, SERVER, *command], capture_output=True, text=True)
        assert refused.returncode == 1 and words in refused.stderr, command
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert server.status(f"/api/2.0/mlflow/runs/get?run_id={run_id}", ann) == 200
    assert file.read_text() == "of last week"
