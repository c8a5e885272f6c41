"""What exists more than once in this repository is equal everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

root = Path(__file__).parents[3]
packages = sorted((root / "packages").glob("vm_*"))

if not packages:
    pytest.skip("needs a checkout: the packages' sources are not here", allow_module_level=True)


def library_version() -> str:
    found = re.search(r"^project\(vm VERSION (\S+)", (root / "cpp" / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("package", packages, ids=lambda package: package.name)
def test_licence_is_the_repositorys(package: Path) -> None:
    assert (package / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()


@pytest.mark.parametrize("package", packages, ids=lambda package: package.name)
def test_versions_are_the_librarys(package: Path) -> None:
    text = (package / "pyproject.toml").read_text()
    assert re.findall(r'^version = "(.+)"', text, re.MULTILINE) == [library_version()]
    assert set(re.findall(r'"vm_\w+==([^"]+)"', text)) <= {library_version()}


@pytest.mark.parametrize("package", packages, ids=lambda package: package.name)
def test_build_requirements_are_the_same(package: Path) -> None:
    def requirements(of: Path) -> str:
        return (of / "pyproject.toml").read_text().split("[project]")[0]

    assert requirements(package) == requirements(packages[0])


def test_citation_and_changelog_know_the_version() -> None:
    assert f"version: {library_version()}" in (root / "CITATION.cff").read_text()
    assert f"## {library_version()}" in (root / "CHANGELOG.md").read_text()


def test_ci_runs_the_command_of_the_readme() -> None:
    command = "python3 noxfile.py tests"
    assert f"\n{command}\n" in (root / "README.md").read_text()
    assert 'step "$python" noxfile.py tests\n' in (root / ".ci" / "run").read_text()


def test_the_readmes_name_the_same_commands() -> None:
    text = (root / "README.md").read_text()
    sessions = set(re.findall(r"python3 noxfile\.py (?:-s )?(\w+)", text))
    defined = set(re.findall(r"^def (\w+)\(session", (root / "noxfile.py").read_text(), re.MULTILINE))
    assert sessions <= defined
