"""Runs a coding agent's command line for a step: Claude Code, Codex, OpenCode and others.

* ``executor.py``   what a step says, and the carrying out of it
* ``adapters/``     a module for each agent: its command line, its files, its words
* ``events.py``     what an agent says, the same for all of them
* ``recorder.py``   from events to the step's journal: tool calls, turns, costs, checkpoints
* ``prompts.py``    what the agent is told
* ``troubles.py``   errors that mean to wait, or that a person must mend
"""
