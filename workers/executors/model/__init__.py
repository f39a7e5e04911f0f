"""Steps of the kind ``llm``: a language model, given a task and tools, until it is done.

Every answer of the model and every call of a tool is a piece in the step's journal, so that a
worker killed in turn 40 goes on in turn 40, from the files as they were.

* ``given.py``         what such a step says, checked
* ``schemas.py``       the part of JSON Schema that tools and answers are described in
* ``endpoint.py``      one request to a model: protocols, waiting, errors, cost
* ``conversation.py``  what was said so far, from the journal, and what of it is sent
* ``tools.py``         what the model may do, and how each kind of call is recorded
* ``files.py``         reading, writing and searching files of the workspace
* ``loop.py``          turn by turn to the end
* ``executor.py``      the executor; the library for models is loaded with the first such step
"""
