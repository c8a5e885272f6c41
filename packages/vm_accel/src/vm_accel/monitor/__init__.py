"""What virtual machines do: exits, time, memory, I/O, as snapshots that can be subtracted.

>>> from vm_accel import Hlt, IoOut
>>> from vm_accel.testing import ScriptedHypervisor
>>> with ScriptedHypervisor([IoOut(0x3F8, b"x"), Hlt()]) as hypervisor, hypervisor.create_vm() as vm:
...     vcpu = vm.create_vcpu()
...     with PerformanceMonitor(vm) as monitor:
...         first = vcpu.run()
...         before = monitor.snapshot()
...         second = vcpu.run()
...         (monitor.snapshot() - before).exits
{'Hlt': 1}

``live`` shows a table that follows the VM (needs rich, which vm_accel installs), ``vm_accel.monitor.prometheus``
serves the figures to Prometheus (needs ``pip install vm_accel[prometheus]``). Neither is imported before it is used.
"""

from .performance import PerformanceMonitor
from .snapshot import IoTraffic, PerformanceSnapshot, VcpuSnapshot
from .table import live, table

__all__ = ["IoTraffic", "PerformanceMonitor", "PerformanceSnapshot", "VcpuSnapshot", "live", "table"]
