//! A terminal for a process: what it writes is read here, and keys are typed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::space::eventually;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Terminal {
    child: Child,
    keys: File,
    written: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Starts the command in a session of its own, with a terminal that controls it.
    pub(crate) fn start(command: &Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        let end =
            || -> OwnedFd { open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap() };
        // Only in a process of its own can a session be made, so another program does it.
        let mut started = Command::new("setsid");
        started
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            started.current_dir(directory);
        }
        started.env_clear();
        for (variable, value) in command.get_envs() {
            started.env(variable, value.unwrap_or_default());
        }
        let child = started
            .stdin(Stdio::from(end()))
            .stdout(Stdio::from(end()))
            .stderr(Stdio::from(end()))
            .spawn()
            .unwrap();
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, written) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It is an error, not an end, when the last process has closed its side.
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal {
            child,
            keys,
            written,
            seen: String::new(),
        }
    }

    /// Reads until the text has come; gives all that has been written so far.
    #[track_caller]
    pub(crate) fn read_until(&mut self, text: &str) -> &str {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.written.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("`{text}` never came ({error}): {}", self.seen),
            }
        }
        &self.seen
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// All that was written, and the exit status.
    #[track_caller]
    pub(crate) fn end(mut self) -> (String, Option<i32>) {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        // What was written last may be on its way still; there is an end when nobody has the terminal any more.
        while let Ok(bytes) = self.written.recv_timeout(PATIENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (std::mem::take(&mut self.seen), status.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
