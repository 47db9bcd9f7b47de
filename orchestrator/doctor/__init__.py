"""Looks at the machine that orch runs on (`orch doctor`): programs, folders, disks, network, configuration.

`examine` does it, and returns `check.Check`s. Nothing is imported here: `engine` is also the start of a process.
"""
