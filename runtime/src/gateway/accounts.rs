//! Accounts of the built-in login.
