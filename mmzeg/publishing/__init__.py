"""Published models: weights, config and results in one safetensors file, whose config is data and runs no code."""
