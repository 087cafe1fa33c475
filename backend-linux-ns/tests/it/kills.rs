//! Parties that are killed or stopped, at every step.
