"""Conversions between messages and values, one module for each subject; none of them makes a call or waits for one."""
