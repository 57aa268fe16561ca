"""uvicorn imports these by name: the lifespan that it is told to have, and those that it could be told to.

Its event loop and its HTTP protocol are given to it (mlxserve/node.py, mlxserve/front.py).
"""

hiddenimports = [
    "uvicorn.lifespan.off",
    "uvicorn.lifespan.on",
]
