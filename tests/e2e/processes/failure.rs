//! In which order tasks start, and what a failure does.

use serde_json::json;

use crate::space::{TestSpace, eventually, is_alive};
use crate::tools::{ends_of, send_signal, task};

const FLAGS: [&str; 2] = ["--address", "127.0.0.1:0"];

#[test]
fn ready_tasks_start_in_file_order_within_the_limit_of_the_process() {
    let stay = "script: ['echo $TASK_NAME >> started', 'until test -e go_$TASK_NAME; do sleep 0.02; done']";
    let space = TestSpace::new(&format!(
        "pipelines:
  p: {{tasks: {{c: {{{stay}}}, a: {{{stay}}}, b: {{{stay}}}}}}}
  q: {{tasks: {{d: {{{stay}}}}}}}
"
    ));
    let server = space.serve_with(&[FLAGS[0], FLAGS[1], "--max-tasks", "2"], &[]);
    let first = server.schedule("p");
    let second = server.schedule("q");
    let started = |count: usize| {
        eventually("so many have started", || {
            let lines: Vec<String> = space.read("started").lines().map(str::to_owned).collect();
            (lines.len() == count).then_some(lines)
        })
    };
    let mut two = started(2);
    two.sort();
    assert_eq!(two, ["a", "c"]);
    let job = server.job(&first);
    assert_eq!(
        (&task(&job, "b")["status"], &task(&job, "b")["start"]),
        (&json!("waiting"), &json!(null))
    );
    let job = server.job(&second);
    assert_eq!(
        (&job["status"], &task(&job, "d")["status"]),
        (&json!("running"), &json!("waiting"))
    );
    space.write("go_a", "");
    // Of the job that started first.
    assert_eq!(started(3)[2], "b");
    space.write("go_c", "");
    assert_eq!(started(4)[3], "d");
    space.write("go_b", "");
    space.write("go_d", "");
    assert_eq!(server.ended(&first)["status"], "succeeded");
    assert_eq!(server.ended(&second)["status"], "succeeded");
}

#[test]
fn on_error_runs_when_every_other_task_has_ended() {
    let (space, server) = TestSpace::serving(
        r#"pipelines:
  p:
    tasks:
      stays: {script: ["trap 'until test -e go; do sleep 0.02; done; exit 143' INT; echo $$ > pid; while :; do sleep 0.02; done"]}
      fails: {script: ["until test -s pid; do sleep 0.02; done", "exit 2"]}
      never: {script: "true", depends_on: fails}
    on_error: {script: ["echo << .failedTaskName >> > told", exit 3]}
"#,
    );
    let id = server.schedule("p");
    eventually("it failed", || {
        (task(&server.job(&id), "fails")["status"] == "error").then_some(())
    });
    let job = server.job(&id);
    assert_eq!((&job["status"], &job["completed"]), (&json!("running"), &json!(false)));
    assert!(
        task(&job, "on_error").is_null() && !space.path.join("told").exists(),
        "{job}"
    );
    space.write("go", "");
    let job = server.ended(&id);
    // A worker that handles the interrupt keeps its exit code.
    assert_eq!(
        ends_of(&job),
        "stays error 143, fails error 2, never canceled, on_error error 3"
    );
    assert_eq!(
        (&job["status"], &job["lastError"]),
        (&json!("failed"), &json!("exit status 2"))
    );
    assert_eq!((&job["errored"], &job["canceled"]), (&json!(true), &json!(false)));
    assert_eq!(space.read("told"), "fails\n");
    assert_eq!(task(&job, "on_error")["error"], "exit status 3");
}

#[test]
fn on_error_runs_after_the_others_that_went_on() {
    let (space, server) = TestSpace::serving(
        r#"pipelines:
  p:
    continue_running_tasks_after_failure: true
    tasks:
      fails: {script: "echo f >> order; exit 2"}
      other: {script: ["until test -e go; do sleep 0.02; done", "echo o >> order; exit 5"]}
    on_error: {script: "echo << .failedTaskName >> >> order"}
"#,
    );
    let id = server.schedule("p");
    eventually("it failed", || {
        (task(&server.job(&id), "fails")["status"] == "error").then_some(())
    });
    space.write("go", "");
    let job = server.ended(&id);
    assert_eq!(ends_of(&job), "fails error 2, other error 5, on_error done");
    assert_eq!(job["lastError"], "exit status 2");
    assert_eq!(space.read("order"), "f\no\nfails\n");
}

#[test]
fn a_signal_from_elsewhere_is_a_failure_that_is_named() {
    let (space, server) =
        TestSpace::serving("pipelines: {p: {tasks: {a: {script: [echo $$ >> pids, exec sleep 60]}}}}");
    for (count, (signal, code, name)) in (1..).zip([
        ("KILL", 137, "killed"),
        ("TERM", 143, "terminated"),
        ("INT", 130, "interrupt"),
        ("SEGV", 139, "segmentation fault"),
    ]) {
        let id = server.schedule("p");
        let pid = eventually("it runs", || {
            let pids = space.read("pids");
            (pids.lines().count() == count && pids.ends_with('\n')).then(|| pids.lines().last().unwrap().to_owned())
        });
        eventually("it is what it becomes", || {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (name == "sleep\n").then_some(())
        });
        send_signal(signal, &pid);
        let job = server.ended(&id);
        assert_eq!(ends_of(&job), format!("a error {code}"));
        let error = json!(format!("signal: {name}"));
        assert_eq!(
            (&job["status"], &job["lastError"], &task(&job, "a")["error"]),
            (&json!("failed"), &error, &error)
        );
    }
}

#[test]
fn what_a_task_leaves_in_the_background_is_left_alone() {
    let (space, server) = TestSpace::serving(
        r#"pipelines:
  quiet: {tasks: {a: {script: ["sleep 60 > /dev/null 2>&1 & echo $! > quiet", "echo a"]}}}
  loud: {tasks: {a: {script: ["(echo b; echo $$ > /dev/null; exec sleep 60) & echo $! > loud", "echo a", "exit 3"]}}}
"#,
    );
    let job = server.run_job("quiet");
    let pid = space.first_line("quiet");
    assert_eq!(ends_of(&job), "a done");
    assert!(task(&job, "a").get("note").is_none(), "{job}");
    assert!(is_alive(&pid));
    send_signal("KILL", &pid);

    let job = server.run_job("loud");
    let pid = space.first_line("loud");
    assert!(is_alive(&pid));
    assert_eq!(ends_of(&job), "a error 3");
    let note = "output was cut off: a process in the background still held it 200 ms after the task ended";
    assert_eq!(task(&job, "a")["note"], note);
    assert!(server.stdout_of(&job, "a").contains("a\n"));
    send_signal("KILL", &pid);
}

#[test]
fn what_wants_the_terminal_fails_at_once() {
    let space = TestSpace::new(
        "pipelines:
  reads: {tasks: {a: {script: ['echo $$ > pid; read x < /dev/tty', touch ran]}}, on_error: {script: touch told}}
  stops: {tasks: {a: {script: ['echo $$ > pid; kill -TTIN $$', touch ran]}}, on_error: {script: touch told}}
",
    );
    // On a terminal of its own, in whose background its tasks are.
    let server = space.serve_by(space.terminal_starter(&FLAGS), &FLAGS, &[]);
    for pipeline in ["reads", "stops"] {
        let job = server.run_job(pipeline);
        assert_eq!(ends_of(&job), "a error -1, on_error done");
        assert_eq!(task(&job, "a")["error"], "wants the terminal; tasks have none");
        assert!(!is_alive(&space.first_line("pid")));
        assert!(!space.path.join("ran").exists() && space.path.join("told").exists());
        std::fs::remove_file(space.path.join("told")).unwrap();
        std::fs::remove_file(space.path.join("pid")).unwrap();
    }
}
