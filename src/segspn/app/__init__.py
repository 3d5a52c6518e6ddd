"""The local web page: draw, run, correct and export in a browser."""

from segspn.app.engine import Engine, Networks, Prompt, Tracked, Tracker
from segspn.app.guard import Access
from segspn.app.serve import serve
from segspn.app.server import MAX_UPLOAD, make_server
from segspn.app.tabs import Tabs

__all__ = [
    "MAX_UPLOAD",
    "Access",
    "Engine",
    "Networks",
    "Prompt",
    "Tabs",
    "Tracked",
    "Tracker",
    "make_server",
    "serve",
]
