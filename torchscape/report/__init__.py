"""The landscape in one file to look at and click through: ``report.write(landscape, "report.html")``.

Built on Bokeh (the extra ``report``); the file needs no network and nothing beside it. docs/report.md says how to
read it.
"""

from torchscape.report.writing import open, write

__all__ = ["open", "write"]
