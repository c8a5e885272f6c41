import os

__version__: str

def probe_kvm(path: os.PathLike[str] | str | bytes) -> tuple[bool, str, int, dict[str, int], int]: ...
