//! Tests of what is shown: news in, and what stands on the outputs, with simulated time.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{after, never};
use serde_json::{Value, json};

use super::screen::Screen;
use super::terminal::{Channel, Commands, Kind, Outputs, Surroundings};
use super::{Content, Display, Manner, Shown};
use crate::task::StreamKind::{Stderr, Stdout};

/// All that was written, `O` and `E` before what went to standard output and error.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<String>>);

struct FakeOutputs {
    written: Written,
    columns: usize,
    stdout_error: Option<i32>,
}

impl Outputs for FakeOutputs {
    fn write(&mut self, channel: Channel, bytes: &[u8]) -> std::io::Result<()> {
        if channel == Channel::Stdout
            && let Some(error) = self.stdout_error
        {
            return Err(std::io::Error::from_raw_os_error(error));
        }
        let mut written = self.written.0.lock().unwrap();
        written.push_str(if channel == Channel::Stdout { "O<" } else { "E<" });
        written.push_str(&String::from_utf8_lossy(bytes));
        written.push('>');
        Ok(())
    }

    fn columns(&self) -> usize {
        self.columns
    }
}

struct Bench {
    screen: Screen,
    written: Written,
    begin: Instant,
    now_ms: u64,
}

const PIPES: Surroundings = Surroundings {
    stdout: Kind::Pipe,
    stderr: Kind::Pipe,
    commands: Commands::LinesAndColors,
    has_unicode: true,
};

const TERMINAL: Surroundings = Surroundings {
    stdout: Kind::Terminal,
    stderr: Kind::Terminal,
    commands: Commands::Lines,
    has_unicode: true,
};

const PEOPLE: Manner = Manner {
    json: false,
    quiet: false,
    disable_ansi: false,
    content: Content::Everything,
};

const JSON: Manner = Manner { json: true, ..PEOPLE };
const QUIET: Manner = Manner { quiet: true, ..PEOPLE };

impl Bench {
    fn new(manner: Manner, around: Surroundings, columns: usize) -> Bench {
        let written = Written::default();
        let outputs = FakeOutputs {
            written: written.clone(),
            columns,
            stdout_error: None,
        };
        let begin = Instant::now();
        Bench {
            screen: Screen::new(manner, around, Box::new(outputs), Box::new(|| ()), begin),
            written,
            begin,
            now_ms: 0,
        }
    }

    fn now(&self) -> Instant {
        self.begin + Duration::from_millis(self.now_ms)
    }

    fn started(&mut self, name: &str) {
        self.screen
            .started(self.now(), &json!({"name": name, "status": "running"}));
    }

    fn ended(&mut self, name: &str, fields: &Value) {
        self.screen.ended(self.now(), &task(name, fields));
    }

    fn done(&mut self, name: &str) {
        self.ended(name, &json!({"status": "done"}));
    }

    fn prints(&mut self, name: &str, text: &str) {
        self.screen.output(self.now(), name, Stdout, text.as_bytes());
    }

    /// At a moment at which nothing else is to be written.
    fn draw(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.screen.draw_if_due(self.now(), true);
    }

    /// What was written since the last time.
    #[track_caller]
    fn check(&mut self, expected: &str) {
        assert_eq!(std::mem::take(&mut *self.written.0.lock().unwrap()), expected);
    }
}

fn task(name: &str, fields: &Value) -> Value {
    let mut task = json!({"name": name, "start": "2026-11-24T03:27:47Z", "durationMs": 1200, "exitCode": 0});
    task.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    task
}

const PROGRESS: (&str, &str) = ("E<\r\x1b[J\x1b[?7l", "\x1b[?7h\r>");
const GONE: &str = "E<\r\x1b[J>";

fn progress(text: &str) -> String {
    format!("{}{text}{}", PROGRESS.0, PROGRESS.1)
}

#[test]
fn what_an_attempt_has_begun_is_a_line() {
    let mut bench = Bench::new(PEOPLE, PIPES, 80);
    bench.prints("a", "no end");
    bench.check("");
    bench.prints("a", "");
    bench.check("O<a | no end\n>");
    bench.prints("a", "");
    bench.prints("a", "again\n");
    bench.check("O<a | again\n>");
}

#[test]
fn in_a_pipe_lines_are_plain_and_go_where_they_belong() {
    let mut bench = Bench::new(PEOPLE, PIPES, 80);
    bench.screen.tasks(&["a".to_owned(), "build".to_owned()], false);
    bench.started("a");
    bench.check("E<[  0.0s]   a started\n>");
    bench.prints("a", "one\ntw");
    bench.check("O<a     | one\n>");
    bench.screen.output(bench.now(), "build", Stderr, b"x\x1b[31m\r\xff\nz");
    bench.check("E<build | x\x1b[31m\r\u{fffd}\n>");
    bench.prints("a", "o\n\n");
    bench.check("O<a     | two\na     | \n>");
    bench.prints("a", "rest");
    bench.check("");
    bench.now_ms = 12_345;
    bench.done("a");
    bench.check("O<a     | rest\n>E<[   12s] ✓ a done after 1.2s\n>");
    assert!(bench.screen.next_draw().is_none());
    bench.draw(20_000);
    bench.check("");
    bench.screen.end(bench.now());
    bench.check("E<build | z\n>");
}

#[test]
fn each_end_says_what_there_is_to_say() {
    for (fields, expected) in [
        (
            json!({"status": "error", "error": "exit status 7", "exitCode": 7}),
            "✗ a failed after 1.2s: exit status 7",
        ),
        (
            json!({"status": "done", "exitCode": 3}),
            "✓ a done after 1.2s: exit status 3, which is allowed",
        ),
        (json!({"status": "canceled", "exitCode": -1}), "■ a canceled after 1.2s"),
        (
            json!({"status": "done", "note": "cut\x1b[2J off"}),
            "✓ a done after 1.2s: cut off",
        ),
    ] {
        let mut bench = Bench::new(PEOPLE, PIPES, 80);
        bench.started("a");
        bench.check("E<[  0.0s]   a started\n>");
        bench.ended("a", &fields);
        bench.check(&format!("E<[  0.0s] {expected}\n>"));
    }
}

#[test]
fn a_task_that_never_ran_has_no_line_before_the_summary() {
    let mut bench = Bench::new(PEOPLE, PIPES, 80);
    bench.ended("a", &json!({"status": "canceled", "start": null}));
    bench.check("");
}

#[test]
fn the_summary_has_a_line_for_each_task_and_the_last_ones_of_the_failed() {
    let mut bench = Bench::new(PEOPLE, PIPES, 80);
    let text: String = (1..=12).map(|number| format!("{number}\x1b[2J\n")).collect();
    bench.prints("test", &text);
    bench.prints("lint", "fine\n");
    bench.written.0.lock().unwrap().clear();
    let failed = json!({"status": "error", "error": "exit status 7"});
    let job = json!({"id": "1", "pipeline": "p", "status": "failed", "durationMs": 61_000, "tasks": [
        task("lint", &json!({"status": "done"})), task("test", &failed),
        task("deploy", &json!({"status": "canceled", "start": null, "durationMs": null}))]});
    bench.screen.job(bench.now(), &job, "look at it");
    bench.check(
        "E<\n✓ lint     1.2s\n✗ test     1.2s  exit status 7\n    3\n    4\n    5\n    6\n    7\n    8\n    9\n    10\n    11\n    12\n\
         ■ deploy         did not run\n✗ p failed after 1m01s: task `test`: exit status 7\n  look at it\n>",
    );
    let canceled = json!({"pipeline": "p", "status": "canceled", "reason": "canceled by anna", "tasks": []});
    bench.screen.job(bench.now(), &canceled, "");
    bench.check("E<\n■ p was canceled: canceled by anna\n>");
    let succeeded = json!({"pipeline": "p", "status": "succeeded", "durationMs": 5, "tasks": []});
    bench.screen.job(bench.now(), &succeeded, "not shown");
    bench.check("E<\n✓ p succeeded after 5ms\n>");
}

#[test]
fn the_summary_fits_a_narrow_terminal() {
    let long = "build-the-frontend-with-all-assets";
    let failed = json!({"status": "error", "error": "exit status 7"});
    let done = json!({"status": "done"});
    for (columns, tasks, expected) in [
        (
            40,
            vec![task(long, &done), task("unit-tests-世界-all", &failed)],
            "✓ build-t…-assets   1.2s\n✗ unit-tes…界-all   1.2s  exit status 7\n",
        ),
        (40, vec![task(long, &done)], "✓ build-the-front…ith-all-assets   1.2s\n"),
        (
            80,
            vec![task(long, &done), task("x", &failed)],
            "✓ build-the-frontend-with-all-assets   1.2s\n✗ x                                    1.2s  exit status 7\n",
        ),
        (5, vec![task(long, &done)], "✓ buil…ets   1.2s\n"),
    ] {
        let mut bench = Bench::new(PEOPLE, TERMINAL, columns);
        let job = json!({"pipeline": "p", "status": "succeeded", "tasks": tasks});
        bench.screen.job(bench.now(), &job, "");
        bench.check(&format!("E<\n{expected}✓ p succeeded\n>"));
        assert!(columns < 40 || expected.lines().all(|line| crate::cli::columns::width(line) <= columns));
    }
}

#[test]
fn on_a_terminal_running_tasks_stand_below_all_else() {
    let mut bench = Bench::new(PEOPLE, TERMINAL, 80);
    bench.screen.tasks(&["a".to_owned(), "b".to_owned()], false);
    bench.started("a");
    bench.check("E<[  0.0s]   a started\n>");
    // What is over at once shows no line.
    bench.draw(99);
    bench.check("");
    bench.draw(100);
    bench.check(&progress("[0s] 0/2 done, running: a 0s"));
    bench.draw(1099);
    bench.check("");
    bench.draw(1100);
    bench.check(&progress("[1s] 0/2 done, running: a 1s"));
    bench.started("b");
    bench.check(&format!("{GONE}E<[  1.1s]   b started\n>"));
    bench.draw(1100);
    bench.check(&progress("[1s] 0/2 done, running: a 1s, b 0s"));
    bench.prints("a", "half a line");
    bench.check("");
    bench.prints("a", "\n");
    bench.check(&format!("{GONE}O<a | half a line\n>"));
    bench.done("a");
    bench.check("E<[  1.1s] ✓ a done after 1.2s\n>");
    bench.draw(1200);
    bench.check(&progress("[1s] 1/2 done, running: b 0s"));
    bench.done("b");
    bench.check(&format!("{GONE}E<[  1.2s] ✓ b done after 1.2s\n>"));
    bench.draw(5000);
    bench.check("");
    assert!(bench.screen.next_draw().is_none());
}

#[test]
fn while_there_is_much_to_write_the_line_is_seen_now_and_then() {
    let mut bench = Bench::new(PEOPLE, TERMINAL, 80);
    bench.started("a");
    bench.draw(1000);
    bench.prints("a", "x\n");
    bench.written.0.lock().unwrap().clear();
    for (now_ms, expected) in [(1001, ""), (1099, ""), (1100, "[1s] 0/1 done, running: a 1s")] {
        bench.now_ms = now_ms;
        bench.screen.draw_if_due(bench.now(), false);
        bench.check(&if expected.is_empty() {
            String::new()
        } else {
            progress(expected)
        });
    }
}

#[test]
fn a_reader_of_standard_output_may_show_it_first() {
    let around = Surroundings {
        stdout: Kind::Pipe,
        ..TERMINAL
    };
    let mut bench = Bench::new(PEOPLE, around, 80);
    bench.started("a");
    bench.draw(1000);
    bench.written.0.lock().unwrap().clear();
    bench.prints("a", "x\n");
    bench.check(&format!("{GONE}O<a | x\n>"));
    bench.draw(1199);
    bench.check("");
    bench.draw(1200);
    bench.check(&progress("[1s] 0/1 done, running: a 1s"));
}

#[test]
fn a_file_that_holds_standard_output_does_not_disturb_the_line() {
    let around = Surroundings {
        stdout: Kind::File,
        ..TERMINAL
    };
    let mut bench = Bench::new(PEOPLE, around, 80);
    bench.started("a");
    bench.draw(1000);
    bench.written.0.lock().unwrap().clear();
    bench.prints("a", "\x1b[1mx\n");
    bench.check("O<a | \x1b[1mx\n>");
}

#[test]
fn the_line_fits_every_terminal() {
    for (columns, expected) in [
        (
            80,
            "[1s] 0/100 done, running: task 1 1s, task 2 1s, task 3 1s, task 4 1s, +96",
        ),
        (45, "[1s] 0/100 done, running: task 1 1s, +99"),
        (35, "[1s] 0/100 done, 100 running"),
        (11, "[1s] 0/10…"),
        (2, "…"),
        (1, ""),
    ] {
        let mut bench = Bench::new(PEOPLE, TERMINAL, columns);
        for number in 1..=100 {
            bench.started(&format!("task {number}"));
        }
        bench.written.0.lock().unwrap().clear();
        bench.draw(1000);
        bench.check(&progress(expected));
    }
    let mut bench = Bench::new(PEOPLE, TERMINAL, 32);
    bench.started("世界\x1b[2J");
    bench.written.0.lock().unwrap().clear();
    bench.draw(1000);
    bench.check(&progress("[1s] 0/1 done, running: 世界 1s"));
}

#[test]
fn nothing_that_is_printed_breaks_a_terminal() {
    let mut bench = Bench::new(PEOPLE, TERMINAL, 30);
    bench.screen.tasks(&["a very long name of a task".to_owned()], false);
    bench.prints("a", "x\x1b[2Jy\x1b[31mred\n10%\r20%\n\x1b]0;t\x07z\n");
    bench.check("O<a          | xyred\na          | 20%\na          | z\n>");
    bench.prints("a very long name of a task", "x\n");
    bench.check("O<a ver…task | x\n>");
}

#[test]
fn colors_are_for_terminals_that_want_them() {
    let colored = Surroundings {
        commands: Commands::LinesAndColors,
        ..TERMINAL
    };
    let mut bench = Bench::new(PEOPLE, colored, 80);
    bench.prints("a", "\x1b[31mred\n");
    bench.check("O<\x1b[36ma\x1b[0m | \x1b[31mred\x1b[0m\n>");
    bench.started("a");
    bench.check("E<\x1b[2m[  0.0s]\x1b[0m   \x1b[36ma\x1b[0m started\n>");
    let ascii = Surroundings {
        has_unicode: false,
        ..PIPES
    };
    let mut bench = Bench::new(PEOPLE, ascii, 80);
    bench.started("a");
    bench.done("a");
    bench.check("E<[  0.0s]   a started\n>E<[  0.0s] + a done after 1.2s\n>");
}

#[test]
fn room_is_left_for_a_name_that_may_come() {
    let mut bench = Bench::new(PEOPLE, PIPES, 80);
    bench.screen.tasks(&["a".to_owned()], true);
    bench.prints("a", "x\n");
    bench.prints("on_error", "x\n");
    bench.check("O<a        | x\n>O<on_error | x\n>");
}

#[test]
fn json_has_one_object_a_line() {
    let mut bench = Bench::new(JSON, TERMINAL, 80);
    bench.screen.tasks(&["a".to_owned()], true);
    bench.started("a");
    bench.check("O<{\"event\":\"started\",\"task\":\"a\",\"name\":\"a\",\"status\":\"running\"}\n>");
    bench.screen.output(bench.now(), "a", Stderr, b"x \xff\"\x1b\nrest");
    bench.check("O<{\"event\":\"output\",\"task\":\"a\",\"stream\":\"stderr\",\"line\":\"x \u{fffd}\\\"\\u001b\"}\n>");
    bench.draw(1000);
    bench.check("");
    bench.ended("a", &json!({"status": "error"}));
    bench.check(
        "O<{\"event\":\"output\",\"task\":\"a\",\"stream\":\"stderr\",\"line\":\"rest\"}\n>\
         O<{\"event\":\"ended\",\"task\":\"a\",\"name\":\"a\",\"start\":\"2026-11-24T03:27:47Z\",\"durationMs\":1200,\
         \"exitCode\":0,\"status\":\"error\"}\n>",
    );
    bench
        .screen
        .job(bench.now(), &json!({"id": "1", "status": "failed"}), "hint");
    bench.check("O<{\"event\":\"job\",\"id\":\"1\",\"status\":\"failed\"}\n>");
}

#[test]
fn quiet_shows_the_output_of_failed_tasks_alone() {
    let mut bench = Bench::new(QUIET, PIPES, 80);
    for name in ["a", "b"] {
        bench.started(name);
        bench.prints(name, "one\ntwo");
        bench.screen.output(bench.now(), name, Stderr, b"three\n");
    }
    bench.done("a");
    bench.check("");
    bench.ended("b", &json!({"status": "error", "error": "exit status 7"}));
    bench.check("O<b | one\n>E<b | three\n>O<b | two\n>");
    let job =
        json!({"pipeline": "p", "status": "failed", "tasks": [task("b", &json!({"status": "error", "error": "e"}))]});
    bench.screen.job(bench.now(), &job, "");
    bench.check("E<✗ p failed: task `b`: e\n>");
    bench
        .screen
        .job(bench.now(), &json!({"pipeline": "p", "status": "succeeded"}), "");
    bench.check("");
}

#[test]
fn outputs_alone_have_no_other_lines() {
    for (content, expected) in [(Content::Outputs, "O<a | x\n>"), (Content::OneOutput, "O<x\n>")] {
        let mut bench = Bench::new(Manner { content, ..PEOPLE }, PIPES, 80);
        bench.started("a");
        bench.prints("a", "x\n");
        bench.done("a");
        bench
            .screen
            .job(bench.now(), &json!({"pipeline": "p", "status": "failed"}), "hint");
        bench.check(expected);
    }
}

#[test]
fn a_reader_that_went_away_is_told_once_and_ends_quietly() {
    for (error, is_quiet) in [(32, true), (28, false)] {
        let (sender, told) = channel();
        let written = Written::default();
        let outputs = FakeOutputs {
            written: written.clone(),
            columns: 80,
            stdout_error: Some(error),
        };
        let unread = Box::new(move || sender.send(()).unwrap());
        let display = Display::start_on(PEOPLE, PIPES, Box::new(outputs), unread).unwrap();
        for _ in 0..3 {
            display.output(&"a".into(), Stdout, b"x\n".to_vec());
        }
        display.line("said".to_owned());
        let shown = display.finish(&never::<()>());
        assert_eq!(matches!(shown, Shown::Unread), is_quiet, "{shown:?}");
        assert_eq!(matches!(shown, Shown::Failed(_)), !is_quiet, "{shown:?}");
        assert_eq!(told.iter().count(), 1);
        let told = if is_quiet { "" } else { "E<said\n>" };
        assert_eq!(*written.0.lock().unwrap(), told);
    }
}

/// Takes nothing until it may.
struct StuckOutputs {
    go: std::sync::mpsc::Receiver<()>,
}

impl Outputs for StuckOutputs {
    fn write(&mut self, _: Channel, _: &[u8]) -> std::io::Result<()> {
        let _ = self.go.recv();
        Ok(())
    }

    fn columns(&self) -> usize {
        80
    }
}

#[test]
fn a_task_that_prints_faster_than_is_read_is_slowed_down() {
    let (let_go, go) = channel();
    let display = Display::start_on(PEOPLE, PIPES, Box::new(StuckOutputs { go }), Box::new(|| ())).unwrap();
    let (sender, progress) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..40 {
                display.output(&"a".into(), Stdout, vec![b'\n'; 64 * 1024]);
                sender.send(number).unwrap();
            }
            drop(sender);
        });
        // Sixteen are pending, the next waits.
        assert_eq!(progress.iter().take(16).last(), Some(15));
        assert!(progress.recv_timeout(Duration::from_millis(100)).is_err());
        // Others are not slowed down.
        display.line("x".to_owned());
        drop(let_go);
        assert_eq!(progress.iter().last(), Some(39));
    });
    assert!(matches!(display.finish(&never::<()>()), Shown::All));
}

#[test]
fn who_is_in_a_hurry_drops_what_is_not_read() {
    let (let_go, go) = channel();
    let display = Display::start_on(PEOPLE, PIPES, Box::new(StuckOutputs { go }), Box::new(|| ())).unwrap();
    std::thread::scope(|scope| {
        let task = scope.spawn(|| {
            for _ in 0..18 {
                display.output(&"a".into(), Stdout, vec![b'\n'; 64 * 1024]);
            }
        });
        display.hurry();
        task.join().unwrap();
    });
    assert!(matches!(display.finish(&after(Duration::ZERO)), Shown::Stuck));
    drop(let_go);
}

#[test]
fn an_output_that_takes_nothing_is_not_waited_for_for_ever() {
    let (let_go, go) = channel();
    let display = Display::start_on(PEOPLE, PIPES, Box::new(StuckOutputs { go }), Box::new(|| ())).unwrap();
    display.line("x".to_owned());
    assert!(matches!(
        display.finish(&after(Duration::from_millis(20))),
        Shown::Stuck
    ));
    drop(let_go);
}
