"""Forty secrets in forty shapes through every way in; no byte that is left behind shows any of them."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import CONF, train_here, train_py
from hypothesis import given
from hypothesis import strategies as st

from shrinkage.machine import secrets
from shrinkage.machine.secrets import is_telling, masked, masked_override, masked_tree, masked_values

# What is hidden by its key, whatever it looks like: the parts of each value, by which it is looked for.
VALUES = [
    "hunter{n}battery", "correct{n} horse{n},battery{n}&staple{n}", "/begins{n}/with{n}", "98172{n}354", "a{n}b",
    "it{n}s;quoted{n}", "x{n}=y{n}", "p{n}@q{n}", "#hash{n}", "%7Bescaped{n}%7D",
]  # fmt: skip
KEYS = [
    "api_token", "API_KEY", "DB_PASS", "MYSQL_PWD", "password", "clientSecret", "secret_access_key", "authorization",
    "signing_key", "credentials", "passphrase", "session_cookie", "hf_token", "STRIPE_KEY", "db_passwd", "sslpassword",
    "id_jwt", "apikey", "private_key", "request_signature",
]  # fmt: skip
# And by its place in an address or a header.
PLACES = [
    "https://usr:{}@h.example/x", "postgresql+psycopg://usr:{}@db/runs", "https://h.example/x?sig={}&a=1",
    "https://h.example/x?a=1&X-Amz-Signature={}", "https://h.example/x?X-Amz-Credential={}",
    "https://h.example/#access_token={}", "https://h.example/x?key={}", "s3://key:{}@bucket/x",
    "mysql://{}:word@db/runs", "https://h.example/x?apiKey={}", "redis://:{}@cache:6379", "Bearer {}",
    "Authorization: Bearer {}", "https://h.example/a?code={}", "Server=db;Password={}", "ftp://u:{}@h/p?x=1",
    "https://usr:{}@h.example/x?password=again{}", "api_key={}", "--token={}", "x-api-key: {}",
]  # fmt: skip
NUMBERS = iter(range(7100, 10**6))


def by_key() -> dict[str, str]:
    """Twenty secrets under telling keys."""
    return {key: VALUES[place % len(VALUES)].format(n=next(NUMBERS)) for place, key in enumerate(KEYS)}


def by_place() -> list[str]:
    """Twenty secrets in addresses and headers."""
    return [place.format(*[f"hunter{next(NUMBERS)}staple"] * 2) for place in PLACES]


def fragments(*texts: str) -> set[str]:
    """The parts of texts that nobody is to see: those with a number in them."""
    words = {word for text in texts for word in yaml_words(text)}
    return {word for word in words if any(str(number) in word for number in range(7100, 7400))}


def yaml_words(text: str) -> Iterator[str]:
    for separator in " ,&/=@:;?#%'\"[]{}":
        text = text.replace(separator, "\n")
    yield from text.split()


@pytest.fixture(autouse=True)
def nothing_learned() -> Iterator[None]:
    """As in a new process."""
    yield
    secrets.learned.clear()
    secrets.by_length.cache_clear()
    secrets.of_environment.cache_clear()


OWN = '''
from shrinkage.data.diabetes import Diabetes


class Remote(Diabetes):
    """Data that somebody fetches with a login."""

    def __init__(self, options=None, address="", api_token="", fails=False, **others):
        super().__init__(**others)
        self.told, self.fails = (options, address, api_token), fails

    def load(self):
        if self.fails:
            raise ValueError(f"401 for {self.told}")
        return super().load()
'''


COMMON = ("--config-dir=my", "data=remote", "trainer=exact", "penalty=l1", "progress=false")


class Place:
    """A folder with somebody's own data set, in which train.py runs."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder
        (folder / "my/data").mkdir(parents=True)
        (folder / "somebodys.py").write_text(textwrap.dedent(OWN))
        remote = {"defaults": ["diabetes", "_self_"], "_target_": "somebodys.Remote", "fails": False}
        remote |= {"options": None, "address": "", "api_token": "", **options}
        (folder / "my/data/remote.yaml").write_text(yaml.safe_dump(remote))

    def train(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit code and all that was printed."""
        store = self.folder / "mlflow.db"
        sweep = ("-m",) if "-m" in arguments else ()
        words = (*sweep, *COMMON, *(word for word in arguments if word != "-m"))
        done = train_py(*words, cwd=self.folder, store=store, PYTHONPATH=str(self.folder), **environment)
        return done.returncode, done.stdout + done.stderr

    def left(self) -> Iterator[tuple[Path, str]]:
        """Every file that was left behind, as text, but for those in which Hydra keeps the command itself."""
        for path in self.folder.rglob("*"):
            is_hydras = ".hydra" in path.parts or path.name == "multirun.yaml"
            if path.is_file() and not is_hydras and "my" not in path.parts and path.suffix not in (".py", ".pyc"):
                yield path, path.read_bytes().decode("latin-1")

    def shows(self, output: str, hidden: set[str]) -> dict[str, list[str]]:
        """By each secret that is shown the files in which it stands, or `printed`."""
        texts = [("printed", output), *((str(path), text) for path, text in self.left())]
        assert len(texts) > 5
        found = {word: [name for name, text in texts if word in text] for word in hidden}
        return {word: names for word, names in found.items() if names}


def test_secrets_of_a_config_file(tmp_path: Path) -> None:
    keys, places = by_key(), by_place()
    options = {"headers": [{"deep": keys}, "plain"], "addresses": places, "sort_key": "readable"}
    place = Place(tmp_path, options=options, address=places[0], api_token=keys["api_token"])
    code, output = place.train("lambd=0.1")
    assert code == 0, output
    hidden = fragments(*keys.values(), *places)
    assert len(hidden) >= 40 and not place.shows(output, hidden)
    (config,) = tmp_path.glob("outputs/*/*/config.yaml")
    assert yaml.safe_load(config.read_text())["data"]["options"]["sort_key"] == "readable"


def test_secrets_of_a_command(tmp_path: Path) -> None:
    """A sweep with its report, in which some jobs fail in a class that quotes them."""
    place, hidden = Place(tmp_path), set[str]()
    keys, places = by_key(), by_place()
    quoted = ", ".join(f"{key}: {value!r}" for key, value in keys.items())
    addresses = ", ".join(map(repr, places))
    given = [
        f"data.options={{deep: {{{quoted}}}, list: [{addresses}]}}",
        f"data.address={places[0]!r}",
        "data.api_token='correct7390 horse7391,battery7392&staple7393'",
        "+tags.db_pass=word7394",
        "+tags.note='of ${data.api_token}'",
        f"+tags.page={places[3]!r}",
    ]
    hidden = fragments(*given)
    assert len(hidden) >= 40
    code, output = place.train("-m", "lambd=0.1,1", "data.fails=false,true", *given)
    assert code == 1 and "401 for" in output, output
    assert not place.shows(output, hidden)
    assert {path.name for path, _ in place.left()} >= {"report.html", "results.jsonl", "run.json", "traceback.txt"}


def test_secrets_of_the_environment(tmp_path: Path) -> None:
    place = Place(tmp_path)
    values = {
        "API_KEY": "hunter7350battery", "DB_PASS": "correct7351 horse7352", "MYSQL_PWD": "hunter7353pwd",
        "HF_TOKEN": "hf_7354hunter", "DATABASE_URL": "postgresql://u:hunter7355url@db/x",
    }  # fmt: skip
    told = [f"+tags.a{number}='it is {value}'" for number, value in enumerate(values.values())]
    code, output = place.train("lambd=0.1", *told, "data.address=hunter7355url", **values)
    assert code == 0, output
    assert not place.shows(output, fragments(*values.values()))


REFUSED = [
    ["foo_pass=hunter7360pass"],
    ["foo_pass=a7361 b7362"],
    ["foo_pass=a", "b7363"],
    ["+foo_pass='/a7364 b7365'"],
    ["+api_token=98172366"],
    ["data.api_token=x,y7367,z7368("],
    ["data.options={api_token: 'correct7369 horse7370', "],
    ["data.address=https://u:hunter7371!@h/x"],
    ["tags={api_token: [correct7372 horse7373]}"],
    ["penalty.api_key=hunter7374key"],
    ["--no-such-option", "data.options={db_pass: 'correct7378 horse7379'}"],
    ["lambd=-1", "+tags.api_token='correct7375 horse7376'"],
]


@pytest.mark.parametrize("typed", REFUSED, ids=lambda typed: typed[0].partition("=")[0])
def test_secrets_of_a_command_that_is_refused(
    tmp_path: Path, typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    done = train_here(*COMMON, "lambd=0.1", *typed, cwd=Place(tmp_path).folder)
    output = done.stdout + done.stderr
    assert done.returncode in (1, 2) and output
    assert not [word for word in fragments(*typed) if word in output], output


def leaves(tree: object) -> Iterator[object]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from leaves(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def test_every_leaf_of_the_configs_stays_readable() -> None:
    for path in CONF.rglob("*.yaml"):
        tree = yaml.safe_load(path.read_text())
        assert masked_tree(tree) == tree, path
        for leaf in leaves(tree):
            assert masked(str(leaf)) == str(leaf), path


def test_names_that_tell_of_no_secret() -> None:
    for name in ("max_tokens", "sort_key", "primary_key", "tokenizer", "token_count", "key", "keyboard", "bypass",
                 "passes", "compass", "design", "public_key", "group_key", "hotkey", "val/loss"):  # fmt: skip
        assert not is_telling(name), name
        assert masked_override(f"+model.{name}=published date") == f"+model.{name}=published date"
        assert masked_values({name: "published"}) == {name: "published"}
    assert all(map(is_telling, KEYS))


@given(st.dictionaries(st.sampled_from(KEYS), st.text(min_size=1) | st.integers(min_value=1), min_size=1))
def test_whatever_stands_under_a_telling_key_is_hidden(tree: dict[str, object]) -> None:
    hidden = dict.fromkeys(tree, "***")
    assert masked_tree({"a": [{"b": tree}]}) == {"a": [{"b": hidden}]}
    assert masked_values({f"a.{key}.b": value for key, value in tree.items()}) == {f"a.{key}.b": "***" for key in tree}
    assert [masked_override(f"+{key}={value}") for key, value in tree.items()] == [f"+{key}=***" for key in tree]
