"""What deploy/server.py adds to MLflow's own check of who is asking, named in auth.ini as the `authorization_function`.

Nobody but the server says where the files of an experiment or of a trace lie: it could be another user's folder, or any
of the server. And wrong logins are slowed down. Each worker process of the server counts by itself.
"""

import hashlib
import hmac
import json
import math
import os
import threading
import time
from collections import OrderedDict

from flask import Response, request
from mlflow.server.auth import authenticate_request_basic_auth
from werkzeug.datastructures import Authorization

FREE = 5  # wrong logins in a row that are answered at once
LONGEST_SECONDS = 60.0  # what the time between two of them grows to
FORGOTTEN_SECONDS = 15 * 60.0  # after the last of them
MOST = 10_000  # that are remembered


class WrongLogins:
    """How often somebody has given a wrong password, by the address and the name that they gave."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def wait(self, who: tuple[str, str], now: float) -> float:
        """How many seconds are left until the next try; where there are none, one more is counted."""
        with self.lock:
            number, last = self.seen.pop(who, (0, 0.0))
            if now - last > FORGOTTEN_SECONDS:
                number = 0
            left = last + min(2.0 ** (number - FREE), LONGEST_SECONDS) - now if number >= FREE else 0.0
            self.seen[who] = (number, last) if left > 0 else (number + 1, now)
            if len(self.seen) > MOST:
                self.seen.popitem(last=False)
            return max(left, 0.0)

    def take_back(self, who: tuple[str, str]) -> None:
        """Not to count the last try, which was right. Those before it stay: another may be guessing at this moment."""
        with self.lock:
            if who in self.seen:
                number, last = self.seen[who]
                self.seen[who] = (number - 1, last)


class RightLogins:
    """Logins that were right before, which nobody's guesses keep out; as hashes under a key of this process."""

    def __init__(self) -> None:
        self.lock, self.key = threading.Lock(), os.urandom(32)
        self.seen: OrderedDict[bytes, None] = OrderedDict()

    def digest(self, login: Authorization) -> bytes:
        return hmac.digest(self.key, f"{login.username}\0{login.password}".encode(), hashlib.sha256)

    def __contains__(self, login: Authorization) -> bool:
        with self.lock:
            return self.digest(login) in self.seen

    def add(self, login: Authorization) -> None:
        with self.lock:
            self.seen[self.digest(login)] = None
            if len(self.seen) > MOST:
                self.seen.popitem(last=False)

    def remove(self, login: Authorization) -> None:
        with self.lock:
            self.seen.pop(self.digest(login), None)


wrong, right = WrongLogins(), RightLogins()


def authenticate() -> Authorization | Response:
    """MLflow's answer to who is asking, or a refusal: 429 after many wrong logins, 403 for a location of files."""
    login = request.authorization
    if login is None or login.type != "basic":
        return authenticate_request_basic_auth()
    who, is_known = (request.remote_addr or "", login.username or ""), login in right
    if not is_known and (seconds := wrong.wait(who, time.monotonic())):
        refused = refusal(429, "REQUEST_LIMIT_EXCEEDED", "too many wrong logins; try again later")
        refused.headers["Retry-After"] = str(math.ceil(seconds))
        return refused
    answer = authenticate_request_basic_auth()
    if isinstance(answer, Response):
        right.remove(login)
        return answer
    if not is_known:
        wrong.take_back(who)
        right.add(login)
    if names_location():
        return refusal(
            403,
            "PERMISSION_DENIED",
            "artifact_location: this server says itself where files lie; leave it out",
        )
    return answer


def names_location() -> bool:
    """Whether the request says where the files of an experiment or a trace are to lie, however that is spelled."""
    if not (request.path.rstrip("/").endswith("/experiments/create") or "/mlflow/traces" in request.path):
        return False
    content = request.get_json(force=True, silent=True)
    while isinstance(content, str):  # as MLflow, which takes JSON within JSON
        try:
            content = json.loads(content)
        except ValueError:
            return False
    return has_location(content)


def has_location(content: object) -> bool:
    """Whether there is one in a request's content: under a key of this name, or a tag `mlflow.artifactLocation`."""
    if isinstance(content, dict):
        return any(value and is_location(key) for key, value in content.items()) or has_location(list(content.values()))
    return any(map(has_location, content)) if isinstance(content, list) else content == "mlflow.artifactLocation"


def is_location(key: str) -> bool:
    """Whether a key names a place of files, as artifact_location, artifactLocation and mlflow.artifactLocation do."""
    return key.replace("_", "").lower().endswith("artifactlocation")


def refusal(status: int, code: str, words: str) -> Response:
    """An answer that MLflow's clients read."""
    return Response(json.dumps({"error_code": code, "message": words}), status, mimetype="application/json")
