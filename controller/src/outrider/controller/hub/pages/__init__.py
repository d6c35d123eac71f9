"""The hub's web page: what it serves to browsers."""
