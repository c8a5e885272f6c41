"""What every Python test needs: Ctrl-C that works, however the run was started."""

import signal

# A shell that starts a run in the background has it ignore SIGINT, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
