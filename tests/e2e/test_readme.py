"""The README shows commands that exist, exit codes that are true, and pictures that are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec

import pytest

from flows.commandline import EXIT_CODES, INTERRUPTED
from flows.train_pipeline import FINAL_STATES
from pipeline.provider_requests import REQUESTS
from providers.settings import Settings
from tests.e2e.conftest import ROOT, Rehearsal

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    part.strip()
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    for part in line.split("#")[0].split("&&")
    if part.strip()
]
MENTIONED = re.findall(r"`(make [a-z]+)`", README)


@cache
def help_of(*command: str) -> str:
    """Return what a Python module's command says about itself."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def options_in(words: list[str]) -> list[str]:
    """Return the options of a command line."""
    return [word.split("=")[0] for word in words if word.startswith("--")]


def check_python(words: list[str]) -> None:
    """A module that can be imported, with options it knows."""
    assert words[0] == "-m"
    assert find_spec(words[1]) is not None
    if options := options_in(words[2:]):
        text = help_of(*words[1 : 2 if words[2].startswith("--") else 3])
        assert [option for option in options if option not in text] == []


def check_prefect(words: list[str]) -> None:
    """A command Prefect has, with options it knows."""
    globals_, rest = [], list(words)
    while rest[0].startswith("--"):
        globals_.append(rest.pop(0))
    depth = 1 if rest[0] == "deploy" else 2
    text = help_of("prefect", *rest[:depth])
    assert [option for option in options_in(rest) if option not in text] == []
    top = help_of("prefect")
    assert [option for option in globals_ if option.removeprefix("--no-") not in top] == []


def check_make(words: list[str]) -> None:
    """A target of the Makefile; what is handed on to the command line are options it knows."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(words[0])}:", makefile, re.MULTILINE)
    for word in words[1:]:
        assert (words[0], word[:5]) == ("run", "ARGS=")
        check_python(["-m", "flows.train_pipeline", *shlex.split(word[5:])])


def check_export(words: list[str]) -> None:
    """A variable the program reads."""
    assert words[0].split("=")[0].lower() in Settings.model_fields


CHECKS = {
    "make": check_make,
    "export": check_export,
    ".venv/bin/python": check_python,
    ".venv/bin/prefect": check_prefect,
}


def test_there_are_commands() -> None:
    """The first thing shown is the rehearsal; the test command is there."""
    assert COMMANDS[0] == "make run"
    assert "make test" in COMMANDS


@pytest.mark.parametrize("command", [*COMMANDS, *MENTIONED])
def test_every_command_exists(command: str) -> None:
    """Targets, modules, subcommands, options and variables are real."""
    words = shlex.split(command)
    CHECKS[words[0]](words[1:])


def test_the_training_commands_make_a_valid_request() -> None:
    """Options of ``python -m flows.train_pipeline`` are fields of the request, or the command's own."""
    own = {"--demo", "--json", "--verbose", "--help"}
    shown = [shlex.split(command) for command in COMMANDS if "flows.train_pipeline" in command]
    assert {provider_of(words) for words in shown} == set(REQUESTS)
    for words in shown:
        kind, given = REQUESTS[provider_of(words)], set(options_in(words))
        assert given <= {f"--{name.replace('_', '-')}" for name in kind.model_fields} | own
        required = {f"--{name}" for name, field in kind.model_fields.items() if field.is_required()}
        assert given >= required or "--demo" in given


def provider_of(words: list[str]) -> str:
    """Return the provider a training command is about: the word after the module, where it is no option."""
    after = words[words.index("flows.train_pipeline") + 1 :]
    return after[0] if after and not after[0].startswith("-") else "pictograph"


def test_the_exit_codes_are_true() -> None:
    """The table names every code the program returns, and no other."""
    table = README.split("| exit code | meaning |")[1].split("\n\n")[0]
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert codes == sorted(codes)
    assert set(codes) == {*EXIT_CODES.values(), INTERRUPTED}
    assert set(EXIT_CODES) == set(FINAL_STATES)


def test_the_final_states_are_named() -> None:
    """Every name a flow run can end with is in the README."""
    assert [name for _, name in FINAL_STATES.values() if f"`{name}`" not in README] == []


def test_every_link_and_picture_is_there() -> None:
    """Relative addresses lead to files of the repository; pictures are small enough to load at once."""
    addresses = [address for address in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in address]
    assert len(addresses) > 3
    assert [address for address in addresses if not (ROOT / address).exists()] == []
    pictures = [ROOT / address for address in addresses if address.endswith(".png")]
    assert len(pictures) >= 2
    assert max(path.stat().st_size for path in pictures) < 300_000


def test_the_shown_output_is_what_the_run_prints(demo: Rehearsal) -> None:
    """Each line of the summary has its counterpart, with the same label, in the README."""
    labels = re.findall(r"^(\S.{0,14}\S)\s{2,}\S", demo.done.out, re.MULTILINE)
    assert "Verdict" in labels
    assert [label for label in labels if not re.search(rf"^{re.escape(label)}\s{{2,}}", README, re.MULTILINE)] == []


def test_supported_pythons_agree() -> None:
    """The range of Python versions is the one the package declares."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    lowest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", declared).groups()  # type: ignore[union-attr]
    assert f"Python 3.{lowest} to 3.{int(beyond) - 1}" in README
