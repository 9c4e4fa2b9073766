"""What the blocking client and the asyncio client share: retries, targets, ownership, hand-over of arrays."""
