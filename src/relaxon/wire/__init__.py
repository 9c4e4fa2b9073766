"""How values travel: arrays in parts or through shared memory, and messages as the values that they stand for."""
