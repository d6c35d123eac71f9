"""A job queue that scales out: it counts the words of web pages, on as many workers as one likes."""
