"""The script that runs the README's commands in CI: what it picks out, and that a wrong README fails."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readme_commands():
    spec = importlib.util.spec_from_file_location("readme_commands", ROOT / ".ci" / "readme_commands.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PAGE = """
```bash
echo one
```

```text
one … ms
```
<!-- not in CI: takes an hour -->
```bash
sleep 3600
```
```yaml
not: commands
```
```bash
tandem serve --push-dir push --port 8511 &
```
"""


def test_commands_expected_lines_and_reasons_are_read(readme_commands):
    found = readme_commands.blocks(PAGE)
    assert [block.script for block in found] == [
        "echo one\n",
        "sleep 3600\n",
        "tandem serve --push-dir push --port 8511 &\n",
    ]
    assert [block.printed for block in found] == [["one … ms"], [], []]
    assert [block.skip for block in found] == ["", "takes an hour", ""]


def test_skipped_commands_are_not_run_and_a_server_is_waited_for(readme_commands):
    script = readme_commands.script_of(readme_commands.blocks(PAGE))
    assert "sleep 3600" not in script
    assert "wait_until_available('127.0.0.1:8511'" in script


def test_lines_have_to_come_in_order(readme_commands):
    printed = "version 1 in 3.5 ms\nversion 2 in 4.5 ms\n"
    assert readme_commands.missing_line(["version 1 in … ms", "version 2 in … ms"], printed) is None
    assert (
        readme_commands.missing_line(["version 2 in … ms", "version 1 in … ms"], printed)
        == "version 1 in … ms"
    )
    assert (
        readme_commands.missing_line(["version 1 in … ms", "version 1 in … ms"], printed)
        == "version 1 in … ms"
    )


def test_the_readme_has_commands_for_the_whole_way(readme_commands):
    scripts = "".join(
        block.script for block in readme_commands.blocks((ROOT / "README.md").read_text()) if not block.skip
    )
    for command in ("prepare csv", "encoder import", "run", "retrain", "serve", "query", "evaluate"):
        assert f"tandem {command} " in scripts
