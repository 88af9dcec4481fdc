"""A benchmark's section of the document: replaced whole, and nothing beside it."""

import pytest

from benchmarks.report import line_plot, table, write_section


def test_a_section_is_replaced_and_the_rest_stays(tmp_path):
    document = tmp_path / "benchmarks.md"
    document.write_text("# A\n<!-- x -->\nold\n<!-- /x -->\nkept\n<!-- y -->\nother\n<!-- /y -->\n")
    for _ in range(2):
        write_section("x", table(["way", "recall"], [["warm", "0.26"]]), document)
    assert document.read_text() == (
        "# A\n<!-- x -->\n| way | recall |\n| --- | ---: |\n| warm | 0.26 |\n<!-- /x -->\nkept\n"
        "<!-- y -->\nother\n<!-- /y -->\n"
    )
    with pytest.raises(ValueError, match="no markers <!-- z -->"):
        write_section("z", "text", document)


def test_a_plot_names_its_lines_and_holds_all_values():
    plot = line_plot("Recall", [13, 14], "share", {"warm": [0.2, 0.3], "scratch": [0.25, 0.31]})
    assert "x-axis [13, 14]" in plot and "line [0.2000, 0.3000]" in plot and "line [0.2500, 0.3100]" in plot
    assert "0.1890 --> 0.3210" in plot and "red: warm, blue: scratch." in plot
