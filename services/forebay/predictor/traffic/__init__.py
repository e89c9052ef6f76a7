"""What the predictor knows of traffic to come: series, fits, choices between forecasters, and their spreads."""
