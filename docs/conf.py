"""The documentation as a site: `make docs` builds it into build/docs."""

import importlib.metadata

project = "forkdiv"
author = "the forkdiv authors"
copyright = author
version = release = importlib.metadata.version("forkdiv")

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
source_suffix = {".md": "markdown"}
templates_path = ["_templates"]
exclude_patterns: list[str] = []
# links to a page's headings, as GitHub names them
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"forkdiv {release}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    # one list of all pages, at the left, in place of a bar of the first five at the top
    "navbar_center": [],
    "navbar_persistent": [],
    "navbar_end": ["search-button-field", "theme-switcher"],
    "show_toc_level": 2,
    "footer_start": ["sphinx-version"],
    "footer_end": ["theme-version"],
}
html_sidebars = {"**": ["all-pages.html"]}
