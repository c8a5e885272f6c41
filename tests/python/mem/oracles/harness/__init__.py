"""What the QEMU comparisons share: machines, page-table builders, reference walkers written from the manuals."""
