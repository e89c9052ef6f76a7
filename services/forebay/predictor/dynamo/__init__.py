"""Our forecaster as a plugin of Dynamo's planner."""
