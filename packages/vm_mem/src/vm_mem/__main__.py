"""``python -m vm_mem`` is the ``vm-mem`` command."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
