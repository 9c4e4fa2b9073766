"""The engines that the server trains models with, each described once in a module of its own as `ENGINE`.

The modules are imported one by one: a job's process needs only that of its kind.
"""
