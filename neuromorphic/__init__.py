"""Learning by relaxation: `relaxon.neuromorphic.boosting` has the networks trained by gradient boosting."""
