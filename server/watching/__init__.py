"""What a server tells those who operate it: status, metrics, traces, logs and the dashboard."""
