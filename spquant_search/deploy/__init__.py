"""Write a member of a front as an integer network for a device, and verify what was written."""
