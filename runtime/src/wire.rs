//! Frames as JSON.
