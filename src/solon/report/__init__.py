"""The report of a run: one HTML file that explains itself and loads nothing from elsewhere."""

from solon.report.html import write

__all__ = ["write"]
