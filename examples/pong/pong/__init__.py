"""A game of ping and pong: devices that command each other."""
