"""The journals of many hosts as one."""
