"""Every key of a TOML file is found on its line."""

import tomllib

import pytest

from forebay.simulator.toml_lines import key_lines, nearest_line, parse_path

TEXT = '''\
# a comment with [brackets] and "quotes"
name = "one"   # [[not.a.table]]
seeds = [
  1,  # first [
  2,
]
text = """
[fake]
key = 1
"""

[trace]
format = "azure"
options = { start_s = 1, names = ["a]", 'b['] }
"quoted key".inner = 1

[[groups]]
model = "a"

[[groups]]
model = "b"

[[policies]]
name = "p"
[policies.scheduler]
router = "x"
[policies.scheduler.router_parameters]
seed = 1

[[policies]]
name = "q"
  [policies.scheduler]
  router = "y"
[a.b]
c.d = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("seeds",), 3),
        (("text",), 7),
        (("trace",), 12),
        (("trace", "options"), 14),
        (("trace", "quoted key", "inner"), 15),
        (("groups",), 17),
        (("groups", 0, "model"), 18),
        (("groups", 1), 20),
        (("groups", 1, "model"), 21),
        (("policies", 0, "scheduler", "router"), 26),
        (("policies", 0, "scheduler", "router_parameters", "seed"), 28),
        (("policies", 1, "scheduler", "router"), 33),
        (("a",), 34),
        (("a", "b", "c", "d"), 35),
    ],
)
def test_a_key_is_on_its_line(path: tuple[str | int, ...], line: int) -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT)[path] == line


def test_nothing_inside_a_string_or_comment_counts() -> None:
    names = {path[0] for path in key_lines(TEXT)}
    assert names == {"name", "seeds", "text", "trace", "groups", "policies", "a"}


def test_a_key_that_is_not_there_is_sought_in_the_table_around_it() -> None:
    lines = key_lines(TEXT)
    assert nearest_line(lines, ("groups", 1, "profile")) == 20
    assert nearest_line(lines, ("trace", "options", "start_s")) == 14
    assert nearest_line(lines, ("unknown",)) is None


def test_a_path_is_parsed() -> None:
    assert parse_path("policies[1].scheduler.router") == ("policies", 1, "scheduler", "router")


def test_a_file_without_an_end_of_line_is_read_to_its_end() -> None:
    assert key_lines("a = 1\nb = 2") == {("a",): 1, ("b",): 2}
