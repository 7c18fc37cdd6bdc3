"""MLflow's tables in a database, and how they stand to those of the installed MLflow."""

import importlib
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .asking import describe

if TYPE_CHECKING:
    from sqlalchemy import Connection

COPY = "_alembic_tmp_"  # before the name of the table that a migration makes anew
MOST_NAMED = 3
COLUMNS = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_xinfo(m.name) c WHERE m.type = 'table'"
STATEMENTS = """SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
                ORDER BY type != 'table'"""


class SQLiteTables:
    """What a SQLite file holds."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read all rows of a query."""
        return self.connection.execute(query).fetchall()

    def columns(self) -> dict[str, set[str]]:
        """List the columns of each table."""
        found: dict[str, set[str]] = {}
        for table, column in self.rows(COLUMNS):
            found.setdefault(table, set()).add(column)
        return found

    def known_to_sqlalchemy(self) -> "Connection":
        """The connection as SQLAlchemy's."""
        from sqlalchemy import StaticPool, create_engine

        return create_engine("sqlite://", poolclass=StaticPool, creator=lambda: self.connection).connect()

    def hindrance(self) -> str | None:
        """Find what MLflow's upgrade of the tables stumbles over, by trying it on a copy of them without their rows."""
        with closing(sqlite3.connect(":memory:")) as copy:
            for (statement,) in self.rows(STATEMENTS):
                copy.execute(statement)
            revisions = self.rows("SELECT version_num FROM alembic_version")
            copy.executemany("INSERT INTO alembic_version VALUES (?)", revisions)
            copy.commit()
            try:
                upgrade(copy)
            except Exception as error:  # whatever a migration stumbles over
                return describe(error)
            missing = missing_columns(SQLiteTables(copy).columns())
            return f"it would lack {few(missing)}" if missing else None


class ServerTables:
    """What a database behind a server holds."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read all rows of a query."""
        from sqlalchemy import text

        return [tuple(row) for row in self.connection.execute(text(query))]

    def columns(self) -> dict[str, set[str]]:
        """List the columns of each table."""
        from sqlalchemy import inspect

        found = inspect(self.connection).get_multi_columns().items()
        return {table: {column["name"] for column in columns} for (_, table), columns in found}

    def known_to_sqlalchemy(self) -> "Connection":
        """The connection itself."""
        return self.connection

    def hindrance(self) -> str | None:
        """Return None: there is nowhere to try an upgrade."""
        return None  # there is nowhere to try it


Tables = SQLiteTables | ServerTables


def mlflow_columns() -> dict[str, set[str]]:
    """List the columns of each table of the installed MLflow."""
    importlib.import_module("mlflow.store.db.utils")  # which makes all tables known
    from mlflow.store.db.base_sql_model import Base

    return {name: {column.name for column in table.columns} for name, table in Base.metadata.tables.items()}


def migrations() -> str:
    """Find the folder of the installed MLflow's migrations."""
    import mlflow

    return str(Path(mlflow.__file__).parent / "store" / "db_migrations")


def revisions() -> list[str]:
    """List the schemas that the installed MLflow knows, the newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory(migrations()).walk_revisions()]


def missing_columns(columns: Mapping[str, set[str]]) -> list[str]:
    """List the columns that MLflow has to find and that are not there, as table.column."""
    expected = mlflow_columns()
    return [f"{table}.{column}" for table in expected for column in sorted(expected[table] - columns.get(table, set()))]


def remains(tables: Mapping[str, set[str]]) -> list[str]:
    """List what a migration that was broken off has left: copies that were to replace tables which are still there.

    Where the table is gone, the copy is all that there is of it, and is none of these.
    """
    return [table for table in tables if table.startswith(COPY) and table.removeprefix(COPY) in tables]


def upgrade(connection: sqlite3.Connection) -> None:
    """Do what `mlflow db upgrade` does to a SQLite database, without stumbling over such remains."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import StaticPool, create_engine

    for table in remains(SQLiteTables(connection).columns()):
        connection.execute(f'DROP TABLE "{table}"')
    connection.commit()
    config = Config()
    config.set_main_option("script_location", migrations())
    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = create_engine("sqlite://", poolclass=StaticPool, creator=lambda: connection)
    with engine.connect() as config.attributes["connection"]:
        command.upgrade(config, "heads")


@dataclass(frozen=True)
class Schema:
    """How a database's tables stand to those of the installed MLflow."""

    state: Literal["none", "current", "older", "newer", "broken"]
    seen: str


def schema(tables: Tables) -> Schema:
    """Compare a database's tables with those of the installed MLflow."""
    import mlflow

    columns, known, mine = tables.columns(), revisions(), f"MLflow {mlflow.__version__}"
    if not columns.keys() & mlflow_columns().keys():
        return Schema("none", "no tables of MLflow; the first run makes them")
    query = "SELECT version_num FROM alembic_version"
    there = [row[0] for row in tables.rows(query)] if "alembic_version" in columns else []
    if len(there) != 1:
        has = f"several revisions ({', '.join(there)})" if there else "no revision"
        return Schema("broken", f"half-migrated: its tables have {has}, as where several made the store at once")
    (revision,) = there
    if revision not in known:
        return Schema("newer", f"newer than {mine}, which does not know its revision {revision}")
    if revision == known[0]:
        if missing := missing_columns(columns):
            return Schema("broken", f"half-migrated: it lacks {few(missing)}")
        return Schema("current", f"that of {mine}, revision {revision}")
    if (hindrance := tables.hindrance()) is not None:
        return Schema("broken", f"half-migrated at revision {revision}, and MLflow's upgrade would fail ({hindrance})")
    steps = known.index(revision)
    behind = f"{steps} revision{'s' * (steps > 1)} behind {mine}: {revision}, not {known[0]}"
    return Schema("older", f"half-migrated, {behind}" if remains(columns) else f"older, {behind}")


def few(names: list[str]) -> str:
    """List the first names, and say how many more there are."""
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
