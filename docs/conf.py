"""How Sphinx builds the site from build/site-source, which scripts/site/generate.py writes: `make docs`."""

from rlstm import __version__

project = "rlstm"
author = "The rlstm authors"
version = release = __version__
html_title = f"rlstm {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

# Third parties' and private types have no page here; errors are named without their module.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|gymnasium|numpy|os|rlstm|torch)\..*"),
    ("py:exc", r"\w+"),
    ("py:class", "UI|Given|Pruner"),  # Names of types that are imported for annotations alone.
]
highlight_language = "text"
smartquotes = False  # Quotes and primes of code and equations stay as they are.

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
