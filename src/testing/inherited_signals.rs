//! Makes tests see the same signals, whoever started them.
//!
//! A signal that is ignored stays so in what is started, as `nohup` and a shell's `&` want it; one that a process has a
//! handler for does not.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT};
use signal_hook::flag::register_conditional_shutdown;

/// Before a test starts anything that must not ignore them.
pub(crate) fn heed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGHUP, SIGINT, SIGQUIT] {
            let always = Arc::new(AtomicBool::new(true));
            register_conditional_shutdown(signal, 128 + signal, always).expect("these can have handlers");
        }
    });
}
