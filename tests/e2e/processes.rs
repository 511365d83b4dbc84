//! How scripts run and end, in real processes.

mod cancel;
mod failure;
mod scripts;
