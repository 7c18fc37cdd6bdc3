"""An MLflow server for a team on one machine: PostgreSQL, artifacts through the server, users with passwords.

python deploy/server.py init FOLDER [--host 127.0.0.1] [--port 5000] [--allowed-hosts mlflow.example.org]
python deploy/server.py run FOLDER               # in the foreground, until Ctrl-C or SIGTERM
python deploy/server.py user FOLDER NAME         # a new user; prints the password, once
python deploy/server.py backup FOLDER FILE.tar   # while it runs, or not
python deploy/server.py restore FOLDER FILE.tar  # into a folder that init has made, and nobody has used
python deploy/server.py serve FOLDER             # MLflow alone, beside a database elsewhere: what a container runs

It needs `pip install -e '.[server]'` and PostgreSQL's programs (Debian: apt-get install postgresql). FOLDER keeps the
database, the artifacts and settings.json with the passwords, which its owner alone can read. docs/server.md says more.
"""

import argparse
import base64
import contextlib
import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROLE, DATABASES = "mlflow", ("mlflow", "mlflow_auth")
START_SECONDS = 120
GUARD = Path(__file__).resolve().with_name("guard")  # has the module that MLflow asks who may do what


class Refused(Exception):
    """What cannot be done, and the way out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    functions = {function.__name__: function for function in (init, run, user, backup, restore, serve)}
    for name in functions:
        commands.add_parser(name).add_argument("folder", type=Path)
    initial = commands.choices["init"]
    initial.add_argument("--host", default="127.0.0.1", help="where it listens; 0.0.0.0 for all of the network")
    initial.add_argument("--port", type=int, default=5000)
    initial.add_argument("--database-port", type=int, default=5433, help="of PostgreSQL, on this machine alone")
    initial.add_argument("--allowed-hosts", default="", help="names that browsers may call it by, with commas between")
    commands.choices["user"].add_argument("name")
    for name in ("backup", "restore"):
        commands.choices[name].add_argument("file", type=Path)
    given = vars(parser.parse_args())
    command, folder = given.pop("command"), given.pop("folder").resolve()
    try:
        functions[command](folder, **given)
    except Refused as refusal:
        sys.exit(f"deploy/server.py: {refusal}")


def init(folder: Path, host: str, port: int, database_port: int, allowed_hosts: str) -> None:
    """A new, empty database with its passwords."""
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty; give a folder that is, or none")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # PostgreSQL may be another user, and has to get through
    settings = {
        "host": host,
        "port": port,
        "database_port": database_port,
        "allowed_hosts": allowed_hosts,
        "database_password": secrets.token_urlsafe(24),
        "admin_password": secrets.token_urlsafe(24),
        "secret_key": secrets.token_urlsafe(32),
    }
    write_private(folder / "settings.json", json.dumps(settings, indent=1) + "\n")
    (folder / "artifacts").mkdir(mode=0o700)
    make_database(folder, settings)
    with database(folder, settings):
        for name in DATABASES:
            client(settings, "createdb", name)
    print(f"The server is ready to run: python deploy/server.py run {folder}")
    print(f"Its administrator is admin, with the password in {folder / 'settings.json'}")


def make_database(folder: Path, settings: dict) -> None:
    """Make the files of an empty PostgreSQL, which lets in who has the password of the settings."""
    data = folder / "postgres"
    data.mkdir(mode=0o700)
    with password_file(settings["database_password"]) as password:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (data, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = ("--auth=scram-sha-256", f"--username={ROLE}", f"--pwfile={password}", "--encoding=UTF8")
        postgres("initdb", f"--pgdata={data}", *options)


def run(folder: Path) -> None:
    """Both servers, until a signal."""
    settings = settings_of(folder)
    alone = (folder / "settings.json").open("rb")  # as long as this process lives
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"{folder} is being run by another process; stop that one first") from None
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", settings["port"])) == 0:
            raise Refused(f"port {settings['port']} is taken by another program; change it in {folder}/settings.json")
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: sys.exit(0))
    with database(folder, settings, stop=True):  # one that was killed may have left it running
        server = subprocess.Popen(mlflow(folder, settings), env=environment(folder, settings), cwd=folder)
        try:
            wait_until_healthy(settings, server)
            print(f"MLflow answers at http://{settings['host']}:{settings['port']}", flush=True)
            code = server.wait()
            raise Refused(f"MLflow ended by itself with exit code {code}; what it said is above")
        finally:
            server.terminate()
            server.wait()


def serve(folder: Path) -> None:
    """MLflow in the place of this process, with settings from the environment, which are kept for `user`."""
    given = {name: os.environ.get(name.upper(), "") for name in ("database_password", "admin_password", "secret_key")}
    if missing := [name.upper() for name, value in given.items() if not value]:
        raise Refused(f"{', '.join(missing)} must be set in the environment; deploy/example.env has them")
    settings = given | {
        "host": "0.0.0.0",
        "port": int(os.environ.get("PORT", "5000")),
        "database_host": os.environ.get("DATABASE_HOST", "database"),
        "database_port": int(os.environ.get("DATABASE_PORT", "5432")),
        "allowed_hosts": os.environ.get("ALLOWED_HOSTS", ""),
    }
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    write_private(folder / "settings.json", json.dumps(settings, indent=1) + "\n")
    os.chdir(folder)
    command = mlflow(folder, settings)
    os.execve(command[0], command, environment(folder, settings))


def mlflow(folder: Path, settings: dict) -> list[str]:
    """The command of MLflow's server."""
    hosts = [f"{name}:{settings['port']}" for name in ("localhost", "127.0.0.1")]
    hosts += [name for name in settings["allowed_hosts"].split(",") if name]
    return [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"),
        *("--host", settings["host"], "--port", str(settings["port"]), "--allowed-hosts", ",".join(hosts)),
        *("--artifacts-destination", (folder / "artifacts").as_uri(), "--serve-artifacts"),
        *("--workers", str(min(os.cpu_count() or 1, 4))),
    ]


def environment(folder: Path, settings: dict) -> dict[str, str]:
    """What it is told besides, since everybody could read it among the arguments; writes auth.ini."""
    write_private(
        folder / "auth.ini",
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = admin\n"
        f"database_uri = {address(settings, 'mlflow_auth').replace('%', '%%')}\n"
        # A password's hash takes longer than a request; a changed one counts after half a minute.
        "auth_cache_ttl_seconds = 30\n"
        "authorization_function = guard:authenticate\n",
    )
    paths = [str(GUARD), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "MLFLOW_BACKEND_STORE_URI": address(settings, "mlflow"),
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": settings["admin_password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": settings["secret_key"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def user(folder: Path, name: str) -> None:
    password = secrets.token_urlsafe(18)
    try:
        asked(settings_of(folder), "users/create", {"username": name, "password": password})
    except urllib.error.HTTPError as error:
        answer = error.read().decode()
        reason = "there is one of this name" if "RESOURCE_ALREADY_EXISTS" in answer else answer[:200]
        raise Refused(f"MLflow refuses the user {name} ({reason}); give another name") from None
    except OSError as error:
        raise Refused(f"MLflow does not answer ({error}); start it with `run` first") from None
    print(f"export MLFLOW_TRACKING_USERNAME={name} MLFLOW_TRACKING_PASSWORD={password}")


def backup(folder: Path, file: Path) -> None:
    """Both databases as each is at one moment, then the artifacts, which are never changed."""
    settings = settings_of(folder)
    if file.exists():
        raise Refused(f"{file} is there already; give another name")
    with database(folder, settings), tempfile.TemporaryDirectory() as scratch, tarfile.open(file, "x") as archive:
        file.chmod(0o600)
        for name in DATABASES:
            dump = Path(scratch) / f"{name}.dump"
            client(settings, "pg_dump", "--format=custom", f"--file={dump}", name)
            archive.add(dump, dump.name)
        archive.add(folder / "artifacts", "artifacts")
        archive.add(folder / "settings.json", "settings.json")
    print(f"{file}: {file.stat().st_size / 1e6:,.1f} MB; it holds passwords, and belongs in a safe place")


def restore(folder: Path, file: Path) -> None:
    settings = settings_of(folder)
    if any((folder / "artifacts").iterdir()):
        raise Refused(f"{folder} has been used; make a new one with init, and restore into that")
    with database(folder, settings), tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(file) as archive:
            archive.extractall(scratch, filter="data")
        for name in DATABASES:
            dump = str(Path(scratch) / f"{name}.dump")
            client(settings, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={name}", dump)
        shutil.copytree(Path(scratch) / "artifacts", folder / "artifacts", dirs_exist_ok=True)
        old = json.loads((Path(scratch) / "settings.json").read_text(encoding="utf-8"))
        # The databases have the old administrator.
        write_private(
            folder / "settings.json", json.dumps(settings | {"admin_password": old["admin_password"]}, indent=1)
        )
    print(f"{folder} is what {file} holds, and its administrator has the password that he had.")


@contextlib.contextmanager
def database(folder: Path, settings: dict, stop: bool = False) -> Iterator[None]:
    """PostgreSQL runs inside; afterwards it is as it was found, or stopped in any case."""
    data = folder / "postgres"
    runs = postgres("pg_ctl", "status", f"--pgdata={data}", check=False) == 0
    options = f"-p {settings['database_port']} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    log = data / "server.log"
    start = ("pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={log}", "-o", options)
    if not runs and postgres(*start, check=False):
        raise Refused(f"PostgreSQL does not start: {log} says why; is port {settings['database_port']} taken?")
    try:
        yield
    finally:
        if stop or not runs:
            postgres("pg_ctl", "stop", "--mode=fast", f"--pgdata={data}")


def postgres(program: str, *arguments: str, check: bool = True) -> int:
    """The exit code of one of the database's own programs, which refuse to be root."""
    found = shutil.which(program) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)), None
    )
    if found is None:
        raise Refused(f"there is no {program} here; install PostgreSQL (Debian: apt-get install postgresql)")
    before = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*before, found, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    if check and done.returncode:
        raise Refused(f"{program} failed: {done.stderr.decode().strip()[-500:]}")
    return done.returncode


def client(settings: dict, program: str, *arguments: str) -> None:
    """A program that talks to the running database."""
    environment = os.environ | {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(settings["database_port"]),
        "PGUSER": ROLE,
        "PGPASSWORD": settings["database_password"],
    }
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"{program} failed: {done.stderr.strip()[-500:]}")


def address(settings: dict, name: str) -> str:
    password = urllib.parse.quote(settings["database_password"], safe="")
    host = settings.get("database_host", "127.0.0.1")
    return f"postgresql+psycopg://{ROLE}:{password}@{host}:{settings['database_port']}/{name}"


def wait_until_healthy(settings: dict, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{settings['port']}/health", timeout=5)
            return
        time.sleep(0.5)
    raise Refused("MLflow did not start; what it said is above")


def asked(settings: dict, path: str, content: dict) -> None:
    """A request by the administrator."""
    login = base64.b64encode(f"admin:{settings['admin_password']}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings['port']}/api/2.0/mlflow/{path}",
        json.dumps(content).encode(),
        {"Content-Type": "application/json", "Authorization": f"Basic {login}"},
    )
    urllib.request.urlopen(request, timeout=30)


def settings_of(folder: Path) -> dict:
    try:
        return json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(
            f"{folder} is no server's folder; make one with `python deploy/server.py init {folder}`"
        ) from None


def write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def password_file(password: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        path = Path(folder) / "password"
        write_private(path, password)
        yield path


if __name__ == "__main__":
    main()
