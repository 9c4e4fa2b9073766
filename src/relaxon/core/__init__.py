"""What all rooms share: results, validation of arguments, errors, optional packages, tables and pictures of results."""
