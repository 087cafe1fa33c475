//! Containers that are warm, clean and never left behind.
