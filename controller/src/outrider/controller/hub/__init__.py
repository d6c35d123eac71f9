"""The hub: a long-running service that remembers what a fleet did, answers over HTTP, and shows it in a browser.

Authors of plugins need `Plugin` and `Context`, and what `Context.store` is asked with and answers; these import nothing
of what the hub itself needs.
"""

from .plugins import Context, Plugin, PluginError
from .records import Bucket, CommandQuery, EventQuery, EventRecord, Page, ResultQuery, ResultRecord, Summary

__all__ = [
    "Bucket",
    "CommandQuery",
    "Context",
    "EventQuery",
    "EventRecord",
    "Page",
    "Plugin",
    "PluginError",
    "ResultQuery",
    "ResultRecord",
    "Summary",
]
