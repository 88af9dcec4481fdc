"""The layout holds: imports run one way, modules are short, the lock is whole, no file names a machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# Folder -> the folders it may import. Tests and benchmarks may import everything, and nothing imports them.
MAY_IMPORT = {
    "transform": set(),
    "towers": {"transform"},
    "serving": {"towers", "transform"},
    "pipeline": {"serving", "towers", "transform"},
    "kubeflow": {"pipeline", "serving", "towers", "transform"},
}
OURS = {*MAY_IMPORT, "tests", "benchmarks"}
LONGEST = 300  # lines; a module that grows past it holds more than one idea
FOREIGN = {
    # Beam's own image has its boot program in a directory of that kind.
    "a path of one machine": re.compile(r"(?<![\w.])/(root|home/\w|Users/\w|work/\w|opt/(?!apache/beam)\w)"),
    "a package registry": re.compile(
        r"https?://[^/\s]*(pypi|pythonhosted|npmjs|deb\.debian)|-index-url[= ]+['\"]?https?:"
    ),
}


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def imported(source: str) -> set[str]:
    """Top-level names of all absolute imports, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def wrong_imports(folder: str, source: str) -> set[str]:
    return (imported(source) & OURS) - MAY_IMPORT[folder] - {folder}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_nothing_below_imports_anything_above(folder):
    wrong = {
        str(path.relative_to(ROOT)): names
        for path in tracked(f"{folder}/*.py")
        if (names := wrong_imports(folder, path.read_text()))
    }
    assert wrong == {}


def test_an_upward_import_is_seen_even_inside_a_function():
    hidden = "def load():\n    from pipeline.settings import Settings\n    return Settings\n"
    assert wrong_imports("serving", hidden) == {"pipeline"}
    assert wrong_imports("kubeflow", hidden) == set()


def test_every_module_is_short_and_says_what_it_is_for():
    at_fault = []
    for path in tracked("*.py"):
        source = path.read_text()
        lines = source.count("\n")
        if lines > LONGEST:
            at_fault.append(f"{path.relative_to(ROOT)}: {lines} lines, {LONGEST} at most")
        if source.strip() and path.name != "setup.py" and not ast.get_docstring(ast.parse(source)):
            at_fault.append(f"{path.relative_to(ROOT)}: no module docstring")
    assert at_fault == []


def foreign(text: str) -> list[str]:
    return [what for what, pattern in FOREIGN.items() if pattern.search(text)]


def test_no_file_names_a_machine_path_or_a_registry():
    at_fault = []
    for path in tracked():
        if path == Path(__file__):
            continue  # holds the patterns and their counter-examples
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        # .gitignore's patterns start with a slash that means the top of this tree.
        at_fault += [
            f"{path.relative_to(ROOT)}: {what}" for what in foreign(text) if path.name != ".gitignore"
        ]
    assert at_fault == []


def test_machine_paths_and_registries_are_recognised():
    assert foreign("open('/home/ada/data')") == foreign("cd /opt/shop") == ["a path of one machine"]
    assert foreign("pip install --index-url https://mirror.example/simple x") == ["a package registry"]
    assert foreign("see https://github.com/tensorflow/tfx and work/demo/data") == []


def test_every_folder_of_ours_is_typed_and_packed():
    there = {path.relative_to(ROOT).parts[0] for path in tracked("*/*.py")} & set(MAY_IMPORT)
    mypy = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert set(mypy["packages"]) == there
    setup = (ROOT / "setup.py").read_text()
    assert all(f'"{folder}"' in setup for folder in there)
    assert all((ROOT / folder / "__init__.py").is_file() for folder in there)


def locked() -> dict[str, str]:
    versions = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([a-z0-9-]+)==(\S+)", line).groups()  # type: ignore[union-attr]
            assert name not in versions, f"{name} is locked twice"
            versions[name] = version
    return versions


def test_the_lock_holds_what_setup_py_asks_for():
    versions = locked()
    asked: list[str] = []
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "install_requires":
            asked += ast.literal_eval(node.value)
        if isinstance(node, ast.keyword) and node.arg == "extras_require":
            asked += [one for extra in ast.literal_eval(node.value).values() for one in extra]
    assert asked
    for text in asked:
        requirement = Requirement(text)
        assert requirement.name in versions, f"{text} is asked for, but not locked"
        version = versions[requirement.name]
        assert requirement.specifier.contains(version), f"{text} is asked for, {version} is locked"
    assert "torch" not in versions
