//! The built-in login.
