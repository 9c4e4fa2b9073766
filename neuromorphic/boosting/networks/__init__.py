"""The merged network: prediction, compression, export and Shapley values."""
