"""A workflow written in Python, run in a process of its own; see ``holdfast.workflows``.

* ``executor.py``  carries out ``python`` steps: prepares what the process needs, watches it
* ``clerk.py``     answers the process and writes down, fenced, what it says
* ``samples.py``   such steps for the suite
"""
