"""Each action type has two halves, each with its functions, and nobody forgot a registry line."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from shared import action_types
from shared.models.enums import ActionType
from worker import actions
from worker.actions.contract import Outcome

ENGINE_SIDE = {"contract", "storage"}  # what the I/O halves share; no action types


def parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_both_registries_know_the_same_types() -> None:
    assert action_types.KINDS.keys() == actions.KINDS.keys() != set()
    assert set(action_types.KINDS) <= {kind.value for kind in ActionType}


@pytest.mark.parametrize(
    ("package", "kinds", "others"),
    [(action_types, action_types.KINDS, set[str]()), (actions, actions.KINDS, ENGINE_SIDE)],
    ids=["shared", "worker"],
)
def test_every_file_of_a_type_is_registered_under_its_name(
    package: ModuleType, kinds: dict[str, ModuleType], others: set[str]
) -> None:
    assert package.__file__ is not None
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - {"__init__"} - others
    assert {kind.lower() for kind in kinds} == files
    for kind, module in kinds.items():
        assert module.__name__ == f"{package.__name__}.{kind.lower()}"


@pytest.mark.parametrize("kind", sorted(action_types.KINDS))
def test_the_pure_half_has_its_functions(kind: str) -> None:
    module = action_types.KINDS[kind]
    assert issubclass(module.Config, BaseModel)
    assert module.Config.model_config.get("extra") == "forbid", "a field that nobody reads is a mistake"
    assert module.Config.model_config.get("frozen")
    assert module.Config.model_config.get("hide_input_in_errors")
    assert parameters(module.redact) == parameters(module.summarize) == ["config"]


@pytest.mark.parametrize("kind", sorted(actions.KINDS))
def test_the_io_half_has_its_functions(kind: str) -> None:
    module = actions.KINDS[kind]
    assert parameters(module.prepare) == ["action", "context"]
    assert parameters(module.perform) == ["request", "doors"]
    assert parameters(module.classify) == ["delivery"]
    assert inspect.iscoroutinefunction(module.perform)
    assert not inspect.iscoroutinefunction(module.prepare)
    assert not inspect.iscoroutinefunction(module.classify)
    assert inspect.get_annotations(module.classify, eval_str=True)["return"] is Outcome
