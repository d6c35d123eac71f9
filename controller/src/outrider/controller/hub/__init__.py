"""The hub: a long-running service that remembers what a fleet did, answers over HTTP, and shows it in a browser.

Authors of plugins need `Plugin` and `Context`, which import nothing of what the hub itself needs.
"""

from .plugins import Context, Plugin, PluginError

__all__ = ["Context", "Plugin", "PluginError"]
