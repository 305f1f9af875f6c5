"""A picked network in C on a Cortex-M that QEMU emulates."""
