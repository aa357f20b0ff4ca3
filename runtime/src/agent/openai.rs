//! Any OpenAI-compatible endpoint as an agent.
