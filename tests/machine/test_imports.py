import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from shrinkage.machine.imports import MANY, StandIn, importing_much


@pytest.mark.parametrize("was_enabled", [True, False])
@pytest.mark.parametrize("modules", [0, MANY - 1, MANY])
def test_the_collector_rests_while_much_is_imported_and_passes_it_over_afterwards(
    was_enabled: bool, modules: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = gc.get_freeze_count()
    try:
        if not was_enabled:
            gc.disable()
        with pytest.raises(ImportError), importing_much():
            assert not gc.isenabled()
            for number in range(modules):
                monkeypatch.setitem(sys.modules, f"module_{number}_of_many", ModuleType("any"))
            raise ImportError
        assert gc.isenabled() == was_enabled
        assert (gc.get_freeze_count() > frozen) == (modules >= MANY)
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with a module that says its own name, which is as if never imported afterwards."""
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").touch()
    (tmp_path / "a_package" / "a_module.py").write_text("name = __name__\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("a_package.a_module", "a_package"):
        sys.modules.pop(name, None)


def test_a_stand_in_answers_what_it_knows_and_else_brings_the_module(package: None) -> None:
    stand_in = StandIn("a_package.a_module", known=1)
    sys.modules[stand_in.__name__] = stand_in
    import a_package.a_module

    assert importlib.import_module("a_package.a_module") is stand_in and stand_in.known == 1
    assert not hasattr(stand_in, "__path__") and sys.modules[stand_in.__name__] is stand_in
    from a_package.a_module import name

    assert name == stand_in.name == "a_package.a_module"
    assert sys.modules[stand_in.__name__] is a_package.a_module is not stand_in
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        stand_in.nothing_of_the_kind  # noqa: B018


def test_a_stand_in_leaves_no_trace(package: None) -> None:
    import a_package

    stand_in = StandIn("a_package.a_module")
    sys.modules[stand_in.__name__] = a_package.a_module = stand_in
    stand_in.step_aside()
    assert not hasattr(a_package, "a_module") and stand_in.__name__ not in sys.modules
    from a_package import a_module

    assert a_module.name == "a_package.a_module"
    stand_in.step_aside()  # another time changes nothing
    assert sys.modules[stand_in.__name__] is a_module is a_package.a_module
