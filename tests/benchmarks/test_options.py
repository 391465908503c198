import importlib
import sys

import pytest

BENCHMARKS = [
    "__main__",
    "attention_swaps",
    "diffedit_speed",
    "finite_checks",
    "growth",
    "inside",
    "photographs",
    "stylediffusion_editing",
    "stylediffusion_learning",
]


@pytest.fixture(params=BENCHMARKS)
def run(request, monkeypatch):
    """Run a benchmark's command line."""
    module = importlib.import_module(f"benchmarks.{request.param}")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [request.param, *arguments])
        module.main()

    return call


def test_every_option_says_what_it_is(run, capsys):
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    words = capsys.readouterr().out.partition("options:")[2].split()
    options = [index for index, word in enumerate(words) if word.startswith("--")]
    assert len(options) >= 3  # --help, --repeats and one of its own at least
    assert all(after - index > 2 for index, after in zip(options, [*options[1:], len(words)], strict=True))


def test_no_round_at_all_is_refused(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("--repeats", "0")
    assert "--repeats: a whole number from 1 to 1000000 is needed, got '0'" in capsys.readouterr().err
