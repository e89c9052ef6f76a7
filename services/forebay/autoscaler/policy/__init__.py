"""The choices of the autoscaler, one package a kind."""
