"""The modules of the asyncio client."""
