//! What happens in a job of a server, as it is printed: for people, or as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::client::follow::Event;

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub json: bool,
    pub quiet: bool,
}

#[derive(Debug)]
pub(crate) struct Live {
    manner: Manner,
}

impl Live {
    pub(crate) fn new(manner: Manner) -> Live {
        Live { manner }
    }

    pub(crate) fn tell(&mut self, event: &Event<'_>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.manner.json {
            let object = match event {
                Event::Started(task, _) => json!({"event": "started", "task": task.name}),
                Event::Ended(task) => json!({"event": "ended", "task": task.name}),
                Event::Line { task, stream, line, .. } => json!({"event": "output", "task": task,
                    "stream": stream.as_str(), "line": String::from_utf8_lossy(line)}),
                Event::Job(job) => {
                    let mut object = json!({"event": "job"});
                    let fields: Value = serde_json::from_str(&job.json).unwrap_or_default();
                    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
                        object.extend(fields);
                    }
                    object
                }
            };
            return writeln!(stdout, "{object}");
        }
        if let Event::Line { task, line, .. } = event {
            write!(stdout, "{task} | ")?;
            stdout.write_all(line)?;
            writeln!(stdout)?;
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {}
}
