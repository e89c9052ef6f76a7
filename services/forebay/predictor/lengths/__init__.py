"""What the predictor knows of answers' lengths: features, models, corrections, bounds, and what is kept of them."""
