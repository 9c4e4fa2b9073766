"""Forward operators of inverse problems, and solves with their normal equations."""
