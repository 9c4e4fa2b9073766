"""What all rooms share: results, refusals of a caller's mistakes, optional packages, tables and pictures of results."""
