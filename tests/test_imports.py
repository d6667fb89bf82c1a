"""What imports what: heavy libraries come only with what needs them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "library"),
    [
        ("solon.audit, solon.reuse, solon.sweep, solon.pipeline", "plotly"),
        ("solon.stages.preference_scores, solon.evaluation.harmfulness, solon.evaluation.agreement", "trl"),
    ],
)
def test_a_library_comes_only_with_what_needs_it(modules: str, library: str) -> None:
    code = f"import sys, {modules}; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
