"""Each kind of thing is in its registry, with the functions that its siblings have: nobody forgot a
line.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import grimp
import pytest
from pydantic import BaseModel

from api import management, resources
from api.management.face import Face
from deploy import cli
from deploy.cli.main import COMMANDS
from shared import action_types, config, credentials
from shared.models.enums import ActionType, ServiceProvider
from worker import actions, maintenance
from worker.actions.contract import Outcome
from worker.app import make_sweeps
from worker.doors import Door
from worker.maintenance.due import Due

# What an action of any type may say.
CONFIG_SIDE = {"flaws", "retry_policy", "http_message", "http_request", "passed_on", "steps", "texts"}

# What the I/O halves share; no action types.
ENGINE_SIDE = {"contract", "http_answers", "credentials", "oauth"}


def parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_both_registries_know_the_same_types() -> None:
    assert action_types.KINDS.keys() == actions.KINDS.keys() != set()
    assert set(action_types.KINDS) <= {kind.value for kind in ActionType}


@pytest.mark.parametrize(
    ("package", "kinds", "others"),
    [(action_types, action_types.KINDS, CONFIG_SIDE), (actions, actions.KINDS, ENGINE_SIDE)],
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
    assert parameters(module.is_primary) == parameters(module.slots) == ["config"]
    assert parameters(module.destination) == parameters(module.secret_names) == ["config"]
    assert parameters(module.preview) == ["config", "recorded", "url"]
    assert parameters(module.unmask) == ["config", "kept"]
    assert parameters(module.seal) == ["config", "encrypt"]
    assert parameters(module.unseal) == ["config", "decrypt"]


@pytest.mark.parametrize("kind", sorted(actions.KINDS))
def test_the_io_half_has_its_functions(kind: str) -> None:
    module = actions.KINDS[kind]
    assert parameters(module.prepare) == ["action", "config", "context"]
    assert parameters(module.perform) == ["request", "stamp", "door"]
    assert parameters(module.starts_at_claim) == ["action"]
    assert parameters(module.classify) == ["delivery"]
    assert inspect.iscoroutinefunction(module.perform)
    assert not inspect.iscoroutinefunction(module.prepare), "it returns its request, or an Outcome"
    assert not inspect.iscoroutinefunction(module.classify)
    assert inspect.get_annotations(module.classify, eval_str=True)["return"] is Outcome
    assert {name for name in vars(Door) if not name.startswith("_")} <= set(dir(module.DOOR))


def files_in(package: ModuleType, *others: str) -> set[str]:
    assert package.__file__ is not None
    found = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    return found - {"__init__", "__main__", *others}


# What all faces share.
FACE_SIDE = {"face", "flowing", "openapi", "described"}

# What resources share; no nouns.
RESOURCE_SIDE = {
    "shapes",
    "paging",
    "history",
    "content",
    "kept_answers",
    "secrecy",
    "action_texts",
    "subjects",
    "signing",
    "bindings",
    "credential_meta",
    "probe_calls",
}

# Made by the start-up only.
WITHOUT_A_ROUTE = {"api_keys"}


# What kinds of credentials share.
CREDENTIAL_SIDE = {"kind", "fields"}


def test_every_kind_of_credential_is_registered_under_its_name() -> None:
    homes = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in credentials.KINDS}
    assert set(homes.values()) == files_in(credentials, *CREDENTIAL_SIDE)
    for name, kind in credentials.KINDS.items():
        assert getattr(credentials, homes[name]).KIND is kind
        assert kind.provider in {provider.value for provider in ServiceProvider}
        assert kind.action_types <= {one.value for one in ActionType}
        for name_of_rule in ("extra", "frozen", "hide_input_in_errors"):
            assert kind.meta.model_config.get(name_of_rule), "a field that nobody reads is a mistake"


def test_every_face_is_served() -> None:
    faces = {name: getattr(management, name).face for name in files_in(management, *FACE_SIDE)}
    assert all(isinstance(face, Face) for face in faces.values())
    assert sorted(face.noun for face in management.FACES) == sorted(face.noun for face in faces.values())
    assert {name.replace("_", " ") for name in faces} == {face.noun for face in management.FACES}


def test_every_noun_has_one_home_and_one_face() -> None:
    nouns = files_in(resources, *RESOURCE_SIDE)
    assert nouns - WITHOUT_A_ROUTE == files_in(management, *FACE_SIDE)
    assert nouns >= WITHOUT_A_ROUTE


def test_every_duty_is_done() -> None:
    sources = {name: f"worker.maintenance.{name}" for name in files_in(maintenance, "duty", "sweep")}
    settings = config.Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    due = Due(None, None, 1.0)  # type: ignore[arg-type]
    done = [duty for sweep in make_sweeps(settings, due) for duty in sweep.duties]
    assert sorted(type(duty).__module__ for duty in done) == sorted(sources.values())
    assert len({duty.name for duty in done}) == len(sources)


def test_every_command_is_listed() -> None:
    assert {f"deploy.cli.{name}" for name in files_in(cli, "main")} == set(COMMANDS.values())


def test_no_face_knows_another() -> None:
    graph = grimp.build_graph("api")
    faces = {f"api.management.{name}" for name in files_in(management, *FACE_SIDE)}
    for face in faces:
        assert not graph.find_modules_directly_imported_by(face) & faces
    assert len(faces) > 5
