"""gdb's view of a guest: a server for ``target remote``.

::

    with GdbServer(vm, ("127.0.0.1", 1234), on_exit=devices) as server:
        status = server.serve_forever()

and, in gdb, ``target remote :1234``. ``monitor`` there knows ``registers``, ``translate ADDRESS``, ``exits``,
``support`` and ``points``.
"""

from .server import GdbServer

__all__ = ["GdbServer"]
