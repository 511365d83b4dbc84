//! What a terminal shows: the picture that is left, and the line of running tasks while it is there.

use std::io::Read;

use super::terminal::{Stdout, Terminal};
use crate::space::{TestSpace, is_alive};

/// Times differ: they are told as `T`.
fn timeless(lines: &[String]) -> Vec<String> {
    let is_time = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_digit())
            && word.ends_with('s')
            && word.trim_end_matches(['m', 's']).parse::<f64>().is_ok()
    };
    let line = |line: &String| {
        let bare = line.replace(['[', ']'], "");
        let words = bare
            .split_whitespace()
            .map(|word| match word.trim_end_matches([',', ':']) {
                time if is_time(time) => word.replace(time, "T"),
                _ => word.to_owned(),
            });
        words.collect::<Vec<_>>().join(" ")
    };
    lines.iter().map(line).collect()
}

#[test]
fn what_is_left_on_the_screen_has_no_trace_of_the_line_of_running_tasks() {
    let space = TestSpace::new(
        "pipelines:
  p:
    tasks:
      a: {script: ['until test -e go; do sleep 0.02; done', echo one]}
      long name: {script: [echo two >&2, 'until test -e go; do sleep 0.02; done', exit 3]}
      c: {script: ['true'], depends_on: [a]}
    continue_running_tasks_after_failure: true
"
        .replace("long name", "long-name")
        .as_str(),
    );
    let terminal = Terminal::start(&space, 80, &[("NO_COLOR", "1")], &["p"]);
    let screen = timeless(&terminal.shows("0/3 done, running: "));
    assert_eq!(screen.last().unwrap(), "T 0/3 done, running: a T, long-name T");
    // It is drawn again, and says so.
    terminal.shows("running: a 1s");
    space.write("go", "");
    let (screen, status) = terminal.end();
    assert_eq!(status, Some(1));
    let mut screen = timeless(&screen);
    // Tasks end in no order.
    screen[2..8].sort();
    let expected = [
        "T a started",
        "T long-name started",
        "T c started",
        "T ✓ a done after T",
        "T ✓ c done after T",
        "T ✗ long-name failed after T: exit status 3",
        "a | one",
        "long-name | two",
        "",
        "✓ a T",
        "✗ long-name T exit status 3",
        "two",
        "✓ c T",
        "✗ p failed after T: task `long-name`: exit status 3",
        "`prunner run --data .prunner p` keeps the outputs",
        "",
    ];
    assert_eq!(screen, expected);
}

#[test]
fn outputs_can_not_break_the_picture() {
    let space = TestSpace::new(
        r"pipelines:
  p:
    tasks:
      a:
        script:
          - printf 'up\033[3Aleft\033[10D\033[2J\033[Hgone?\n\033]0;title\007\033[?1049hscreen\n'
          - printf '10%%\r20%%\r30%%\nbell\007\b\b\b\n\tx\033c\n'
          - printf '\033[31mred\nplain\033(0\n' >&2
          - printf '\302\233' && printf '2J\342\200\256x\n'
          - 'until test -e go; do sleep 0.02; done'
",
    );
    let terminal = Terminal::start(&space, 80, &[], &["p"]);
    terminal.shows("running: a");
    space.write("go", "");
    let (screen, status) = terminal.end();
    assert_eq!(status, Some(0));
    let mut outputs: Vec<&str> = screen.iter().filter_map(|line| line.strip_prefix("a | ")).collect();
    outputs.sort_unstable();
    assert_eq!(
        outputs,
        ["    x", "30%", "bell", "plain", "red", "screen", "upleftgone?", "x"]
    );
    assert_eq!(
        screen.iter().filter(|line| line.contains("running: ")).count(),
        0,
        "{screen:?}"
    );
}

#[test]
fn a_narrow_terminal_has_one_line_for_a_hundred_tasks() {
    let tasks: String = (0..100)
        .map(|number| format!("task-with-a-long-name-{number}: {{script: ['until test -e go; do sleep 0.1; done']}}, "))
        .collect();
    let space = TestSpace::new(&format!("pipelines: {{p: {{tasks: {{{tasks}}}}}}}"));
    let terminal = Terminal::start(&space, 30, &[], &["p", "--max-tasks", "100", "--quiet"]);
    let screen = timeless(&terminal.shows("100 running"));
    assert_eq!(screen, ["T 0/100 done, 100 running"]);
    space.write("go", "");
    assert_eq!(terminal.end(), (vec![String::new()], Some(0)));
}

#[test]
fn long_and_wide_lines_wrap_and_leave_no_trace_of_the_line() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: ['until test -e go; do sleep 0.02; done', 'echo 世界世界世界世界世界世界', 'until test -e on; do sleep 0.02; done']}}}}",
    );
    let terminal = Terminal::start(&space, 20, &[], &["p"]);
    terminal.shows("0/1 done");
    space.write("go", "");
    let screen = timeless(&terminal.shows("世界世"));
    let wrapped = screen.iter().position(|line| line.starts_with("a | ")).unwrap();
    assert_eq!(
        (&*screen[wrapped], &*screen[wrapped + 1]),
        ("a | 世界世界世界世界", "世界世界")
    );
    space.write("on", "");
    let (screen, status) = terminal.end();
    assert_eq!(status, Some(0));
    assert!(!screen.iter().any(|line| line.contains("0/1")), "{screen:?}");
}

/// Whether there are colors, and whether there is any command to the terminal at all.
#[track_caller]
fn check_escapes(variables: &[(&str, &str)], arguments: &[&str], has_colors: bool, has_any: bool) {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"printf '\\\\033[35mx\\\\n'\", 'until test -e go; do sleep 0.02; done']}}}}",
    );
    let mut terminal = Terminal::start(&space, 80, variables, arguments);
    terminal.shows(if has_any { "0/1 done" } else { "a | x" });
    space.write("go", "");
    let (bytes, status) = terminal.end_bytes();
    assert_eq!(status, Some(0));
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.contains("\x1b[35m"), has_colors, "{text}");
    assert_eq!(text.contains("\x1b[36ma\x1b[0m"), has_colors, "{text}");
    assert_eq!(text.contains('\x1b'), has_any, "{text}");
}

#[test]
fn colors_are_for_who_wants_them() {
    check_escapes(&[], &["p"], true, true);
    check_escapes(&[("NO_COLOR", "1")], &["p"], false, true);
    check_escapes(&[("PRUNNER_DISABLE_ANSI", "true")], &["p"], false, false);
    check_escapes(&[], &["p", "--disable-ansi"], false, false);
    check_escapes(&[("TERM", "dumb")], &["p"], false, false);
}

#[test]
fn standard_output_that_goes_elsewhere_holds_the_output_alone() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [echo out, echo err >&2, 'until test -e go; do sleep 0.02; done']}}}}",
    );
    let mut terminal = Terminal::start_with(&space, 80, &[], &["p"], Stdout::Here);
    let mut stdout = terminal.take_stdout();
    terminal.shows("running: a");
    space.write("go", "");
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a | out\n");
    let (screen, status) = terminal.end();
    assert_eq!(status, Some(0));
    assert_eq!(
        screen
            .iter()
            .filter(|line| line.starts_with("a | "))
            .collect::<Vec<_>>(),
        ["a | err"]
    );
}

#[test]
fn ctrl_c_stops_and_its_second_kills() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"trap '' INT TERM; echo $$ > pid; while :; do sleep 0.1; done\"]}}}}",
    );
    let mut terminal = Terminal::start(&space, 80, &[], &["p", "--kill-grace", "1h"]);
    let pid = space.first_line("pid");
    terminal.shows("running: a");
    terminal.type_in("\x03");
    terminal.shows("stopping the tasks; Ctrl-C kills them");
    assert!(is_alive(&pid));
    terminal.type_in("\x03");
    let (screen, status) = terminal.end();
    assert_eq!(status, Some(130), "{screen:?}");
    assert!(!is_alive(&pid));
    let last = &screen[screen.len() - 2];
    assert!(
        last.starts_with("■ p was canceled after") && last.ends_with(": canceled by anna"),
        "{screen:?}"
    );
}

#[test]
fn ctrl_c_reaches_prunner_alone_and_tasks_by_it() {
    let space = TestSpace::new(
        "pipelines: {p: {tasks: {a: {script: [\"trap 'echo again >> ints' INT; echo > up; while ! test -e ints; do sleep 0.02; done\"]}}}}",
    );
    let mut terminal = Terminal::start(&space, 80, &[], &["p"]);
    space.first_line("up");
    terminal.type_in("\x03");
    let (_, status) = terminal.end();
    assert_eq!(status, Some(130));
    assert_eq!(space.read("ints"), "again\n");
}

#[test]
fn the_line_of_running_tasks_stays_within_a_window_that_changes() {
    let tasks: String = (0..3)
        .map(|number| format!("some-long-name-{number}: {{script: ['until test -e go; do sleep 0.02; done']}}, "))
        .collect();
    let space = TestSpace::new(&format!("pipelines: {{p: {{tasks: {{{tasks}}}}}}}"));
    let mut terminal = Terminal::start(&space, 120, &[], &["p"]);
    let whole = "0/3 done, running: some-long-name-0 ";
    terminal.shows(whole);
    let columns_of = |line: &str| line.chars().count();
    terminal.resize(40);
    let line = terminal.last_line("a narrow line", |line| columns_of(line) < 40);
    assert!(line.ends_with("0/3 done, 3 running"), "{line}");
    terminal.resize(20);
    let line = terminal.last_line("a cut line", |line| columns_of(line) < 20);
    assert!(line.ends_with('…'), "{line}");
    terminal.resize(120);
    let line = terminal.last_line("a wide line", |line| line.contains(whole));
    assert_eq!(line.matches("some-long-name-").count(), 3, "{line}");
    terminal.resize(30);
    space.write("go", "");
    let (screen, status) = terminal.end();
    assert_eq!(status, Some(0));
    assert!(!screen.iter().any(|line| line.contains("0/3")), "{screen:?}");
}
