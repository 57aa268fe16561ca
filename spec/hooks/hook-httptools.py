"""httptools is written in Cython, whose imports PyInstaller does not see."""

hiddenimports = [
    "httptools.parser.errors",
    "httptools.parser.parser",
    "httptools.parser.url_parser",
]
