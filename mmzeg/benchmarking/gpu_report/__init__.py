"""One report of parity, precision, training and speed on a device; ``tools/gpu_report.py`` is its command line."""
