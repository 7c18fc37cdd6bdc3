"""What a store says where it does not do what it is asked, made into an error of this project's once, at the edge.

MLflow, SQLAlchemy, the drivers of databases, requests and the file system each have their own exceptions. Whether
asking again may help is told from classes and codes: MLflow's error code, the HTTP status, SQLite's and SQLSTATE's
codes, errno. Words decide only where a library gives nothing else: PostgreSQL's drivers have no code for a connection
that was not made, and MLflow's client keeps neither a status that it does not know nor the name of a server's error.
"""

import errno
import re
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from ssl import SSLCertVerificationError

import requests
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from shrinkage.errors import ShrinkageError, StoreAway, StoreRefuses, TrackingError
from shrinkage.machine.secrets import masked

LONGEST = 300  # characters of a library's own words

# MLflow's codes that only say where an error was caught; its cause knows more.
WRAPPERS = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "BAD_REQUEST")
FINAL_CODES = ("INVALID_STATE", "NOT_IMPLEMENTED")  # whose HTTP status would let one hope
PASSING_STATUSES = (408, 409, 429, 499)  # of those below 500, which else are about the request itself
PASSING_SQLITE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_NOMEM,
)
FINAL_SQLITE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
# SQLSTATE's classes: connection, rollback, resources, an operator's intervention, system; then logins and privileges.
PASSING_SQLSTATES, FINAL_SQLSTATES = ("08", "40", "53", "57", "58"), ("28", "3D", "42501")
FINAL_MYSQL = (1044, 1045, 1049, 1142, 1698)  # access denied, no such database
FINAL_LOGIN = ("authentication failed", "does not exist", "no password supplied", "access denied")
# A file system's answers that only a person can change. A store that has been opened is waited for all the same.
CLOSED_PATHS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
)


@contextmanager
def asking(explain: Callable[[Exception], str] | None = None) -> Generator[None]:
    """Ask a store something: what it says where it does not answer is raised as StoreAway or StoreRefuses.

    explain: puts into words why a store that is being opened cannot be used; None for one that has been opened.
    """
    try:
        yield
    except ShrinkageError:
        raise
    except Exception as error:  # of whatever library
        raise as_ours(error, explain) from error


def as_ours(error: Exception, explain: Callable[[Exception], str] | None) -> TrackingError:
    """Turn an exception of a library into StoreAway or StoreRefuses.

    Where its code leaves open whether asking again may help, a store that is only being opened refuses, since a person
    is there to mend it; one that has been opened is away, and its runs are kept until it is back.
    """
    may_pass = can_pass(error)
    if may_pass is None:
        may_pass = explain is None and isinstance(error, MlflowException | OSError | SQLAlchemyError | sqlite3.Error)
    if may_pass:
        return StoreAway(shortly(error))
    words = masked(f"{type(error).__name__}: {own_words(error)}") if explain is None else explain(error)
    return StoreRefuses(words, error.error_code if isinstance(error, MlflowException) else "")


def can_pass(error: BaseException) -> bool | None:
    """Whether asking again may help, by the codes of an exception and of its causes; None where they are mute."""
    match error:
        case MlflowException():
            if error.error_code in WRAPPERS:
                return of_wrapper(error)
            status = error.get_http_status_code()
            return error.error_code not in FINAL_CODES and (status >= 500 or status in PASSING_STATUSES)
        case IntegrityError():  # MLflow looks for a data set and then inserts it: two writers at once may both insert
            return True
        case DBAPIError():
            return of_database(error)
        case sqlite3.Error():
            return of_sqlite(error)
        case requests.RequestException():
            is_untrusted = any(isinstance(link, SSLCertVerificationError) for link in chain(error))
            return not is_untrusted and not isinstance(error, ValueError)  # which is about the address
        case OSError():
            return None if error.errno in CLOSED_PATHS else True
        case _:
            return None


def of_wrapper(error: MlflowException) -> bool | None:
    """The same of an error of MLflow's that was made of another one, here or in a server."""
    for below in list(chain(error))[1:]:
        if (found := can_pass(below)) is not None:
            return found
    if IntegrityError.__name__ in str(error):
        return True
    if error.error_code == "TEMPORARILY_UNAVAILABLE":  # every error in a database's work is, of whatever kind
        return None if any(isinstance(link, DBAPIError) for link in chain(error)) else True
    if error.error_code == "BAD_REQUEST":
        return False
    status = status_of(error)
    return True if status is not None and status >= 500 else None


def of_database(error: DBAPIError) -> bool | None:
    """The same of an error of a database's driver, as SQLAlchemy hands it on."""
    driver = error.orig
    if isinstance(driver, sqlite3.Error):
        return of_sqlite(driver)
    state = getattr(driver, "sqlstate", None) or getattr(driver, "pgcode", None)
    if state:
        return True if state.startswith(PASSING_SQLSTATES) else False if state.startswith(FINAL_SQLSTATES) else None
    number = next(iter(getattr(driver, "args", ())), None)
    if isinstance(number, int):  # MySQL's
        return number not in FINAL_MYSQL if isinstance(error, OperationalError) else None
    if isinstance(error, OperationalError):  # a connection that was not made
        return not any(words in str(driver).lower() for words in FINAL_LOGIN)
    return None


def of_sqlite(error: sqlite3.Error) -> bool | None:
    """The same of an error of SQLite's, by the first byte of its code."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return True if code in PASSING_SQLITE else False if code in FINAL_SQLITE else None


def status_of(error: MlflowException) -> int | None:
    """The HTTP status with which a server has answered; None where the error is not a server's answer."""
    if isinstance(error, RestException):
        return error.get_http_status_code()
    answered = re.search(r"failed with error code (\d+)|too many (\d+) error responses", str(error))
    return int(answered[1] or answered[2]) if answered else None


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, then the one that it came from (`orig` with SQLAlchemy), and so on."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or getattr(link, "orig", None) or link.__context__


def shortly(error: Exception) -> str:
    """Say in a few words why a store does not answer."""
    links = list(chain(error))
    for link in reversed(links):
        if isinstance(link, OSError) and link.errno and link.strerror:
            return link.strerror
        if isinstance(link, sqlite3.Error) and getattr(link, "sqlite_errorname", "").startswith(
            ("SQLITE_BUSY", "SQLITE_LOCKED")
        ):
            return "another process has locked the database"
    if isinstance(error, MlflowException) and (status := status_of(error)) is not None:
        return f"it answers {status}"
    if any(isinstance(link, requests.Timeout | TimeoutError) for link in links):
        return "no answer in time"
    if any(isinstance(link, requests.ConnectionError | requests.exceptions.RetryError) for link in links):
        return "the connection breaks off"
    return masked(own_words(error))


def own_words(error: Exception) -> str:
    """An exception's own words in one line, without the statement that a database was given and SQLAlchemy's advice."""
    words = " ".join(str(error).split()).split(" [SQL")[0]
    return re.sub(r"\(raised as a result of Query-invoked autoflush;[^)]*\) | \(Background on .*", "", words)[:LONGEST]
