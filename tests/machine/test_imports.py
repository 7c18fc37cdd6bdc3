import gc
import sys
from types import ModuleType

import pytest

from shrinkage.machine.imports import MANY, importing_much


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
