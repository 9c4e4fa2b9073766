# Generated from relaxon/client/_async/__init__.py by tools/generate_client.py: edit that file and run the tool.
"""The modules of the blocking client."""
