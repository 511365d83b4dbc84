//! Every key of a pipeline and of a task, durations, and the YAML that real files use.

use serde_json::{Value, json};

use crate::space::{TestSpace, eventually, is_alive};
use crate::tools::{ends_of, send_signal, task, text};

/// A task that tells its pid and stays until it is stopped.
const STAY: &str = "['echo $$ >> pids', exec sleep 60]";

#[test]
fn a_pipeline_without_tasks_succeeds_at_once() {
    let (_space, server) = TestSpace::serving(
        "pipelines:
  none: {}
  nothing:
    tasks:
  empty: {tasks: {}}
",
    );
    for pipeline in ["none", "nothing", "empty"] {
        let job = server.run_job(pipeline);
        assert_eq!(
            (&job["status"], &job["tasks"], &job["durationMs"]),
            (&json!("succeeded"), &json!([]), &json!(0)),
            "{job}"
        );
    }
}

#[test]
fn concurrency_says_how_many_jobs_run_at_once() {
    let (space, server) = TestSpace::serving(&format!(
        "pipelines: {{one: {{tasks: {{a: {{script: {STAY}}}}}}}, two: {{concurrency: 2, tasks: {{a: {{script: {STAY}}}}}}}}}"
    ));
    let one = [server.schedule("one"), server.schedule("one")];
    let two = [server.schedule("two"), server.schedule("two"), server.schedule("two")];
    eventually("all that may run do", || {
        (space.read("pids").lines().count() == 3).then_some(())
    });
    assert_eq!(one.map(|id| server.status_of(&id)), ["running", "waiting"]);
    let statuses = two.each_ref().map(|id| server.status_of(id));
    assert_eq!(statuses, ["running", "running", "waiting"]);
    server.cancel_job(&two[0]);
    server.ended(&two[0]);
    eventually("the next one starts", || {
        (server.status_of(&two[2]) == "running").then_some(())
    });
}

#[test]
fn after_a_failure_the_others_run_on_where_they_may() {
    let (space, server) = TestSpace::serving(
        r#"pipelines:
  deploy:
    continue_running_tasks_after_failure: true
    tasks:
      lint: {script: exit 4}
      fix: {script: touch fixed, depends_on: lint}
      build: {script: "until test -e go; do sleep 0.02; done"}
      upload: {script: touch uploaded, depends_on: build}
"#,
    );
    let id = server.schedule("deploy");
    eventually("it fails", || {
        (task(&server.job(&id), "lint")["status"] == "error").then_some(())
    });
    assert_eq!(task(&server.job(&id), "build")["status"], "running");
    space.write("go", "");
    let job = server.ended(&id);
    assert_eq!(ends_of(&job), "lint error 4, fix canceled, build done, upload done");
    assert_eq!(
        (&job["status"], &job["lastError"]),
        (&json!("failed"), &json!("exit status 4"))
    );
    assert!(!space.path.join("fixed").exists() && space.path.join("uploaded").exists());
}

#[test]
fn finished_jobs_are_forgotten_after_the_retention_period() {
    let (space, server) = TestSpace::serving(
        "pipelines: {short: {retention_period: 100ms, tasks: {a: {script: [echo a]}}}, long: {tasks: {a: {script: [echo a]}}}}",
    );
    let kept = server.schedule("long");
    server.ended(&kept);
    let forgotten = server.schedule("short");
    let target = format!("/job/detail?id={forgotten}");
    eventually("it is forgotten", || (server.get(&target).status == 404).then_some(()));
    let logs = |id: &str| space.path.join(".prunner/logs").join(id).exists();
    eventually("its logs are gone", || (!logs(&forgotten)).then_some(()));
    assert!(logs(&kept));
    assert_eq!(server.status_of(&kept), "succeeded");
}

#[test]
fn retention_count_keeps_the_newest_that_started_and_as_many_others() {
    let (space, server) = TestSpace::serving(
        "pipelines: {p: {retention_count: 2, queue_strategy: replace, queue_limit: 1, tasks: {a: {script: [echo a, 'until test -e go; do sleep 0.02; done']}}}}",
    );
    let first = server.schedule("p");
    let replaced = [(); 4].map(|()| server.schedule("p"));
    space.write("go", "");
    let fifth = &replaced[3];
    server.ended(&first);
    server.ended(fifth);
    let is_known = |id: &str| server.get(&format!("/job/detail?id={id}")).status == 200;
    // Of three that were replaced two are kept, and they push out none of the two that ran.
    assert_eq!(replaced.each_ref().map(|id| is_known(id)), [false, true, true, true]);
    assert!(is_known(&first));
    let last = server.schedule("p");
    server.ended(&last);
    eventually("the oldest is forgotten", || (!is_known(&first)).then_some(()));
    let logs = |id: &str| space.path.join(".prunner/logs").join(id).exists();
    eventually("its logs are gone", || (!logs(&first)).then_some(()));
    assert!(is_known(&replaced[2]) && is_known(fifth) && is_known(&last));
    assert!(logs(&last));
}

#[test]
fn values_in_env_print_as_they_are_written() {
    let names = [
        "TEXT", "YES", "ONE", "LONG", "DECIMAL", "HEX", "EXPONENT", "NULL", "TILDE", "NONE", "LITERAL",
    ];
    let script = format!(
        "for name in {}; do eval \"printf '%s=%s\\\\n' $name \\\"\\$$name\\\"\"; done",
        names.join(" ")
    );
    let (_space, server) = TestSpace::serving(&format!(
        "pipelines:
  p:
    env: {{TEXT: 'a \"b\"', YES: true, ONE: 1, LONG: 123456789012345678901234567890, DECIMAL: 1.10, HEX: 0x1F, EXPONENT: 1e3, NULL: null, TILDE: ~, NONE: }}
    tasks:
      a:
        env: {{LITERAL: '$HOME << .x >> {{{{ .x }}}}'}}
        script:
          - {script}
"
    ));
    let job = server.run_job("p");
    let expected = "TEXT=a \"b\"\nYES=true\nONE=1\nLONG=123456789012345678901234567890\nDECIMAL=1.10\nHEX=0x1F\n\
                    EXPONENT=1e3\nNULL=\nTILDE=\nNONE=\nLITERAL=$HOME << .x >> {{ .x }}\n";
    assert_eq!(server.output_of(&job, "a"), (expected.to_owned(), String::new()));
}

#[test]
fn a_shell_of_a_task_wins_over_that_of_its_pipeline() {
    let (space, server) = TestSpace::serving(
        "pipelines:
  p:
    shell: ./mine
    tasks:
      a: {script: [echo a]}
      b: {script: [echo b], shell: [./other, -e]}
    on_error: {script: [echo c]}
  list:
    shell: [./mine, -u, -e]
    tasks:
      a: {script: [exit 1]}
    on_error: {script: [echo d], shell: ./other}
",
    );
    for shell in ["mine", "other"] {
        space.write_script(shell, &format!("echo {shell} $(($# - 3)) >&2; exec sh \"$@\""));
    }
    let job = server.run_job("p");
    assert_eq!(server.output_of(&job, "a"), ("a\n".to_owned(), "mine 0\n".to_owned()));
    assert_eq!(server.output_of(&job, "b"), ("b\n".to_owned(), "other 1\n".to_owned()));
    let job = server.run_job("list");
    assert_eq!(server.output_of(&job, "a"), (String::new(), "mine 2\n".to_owned()));
    assert_eq!(
        server.output_of(&job, "on_error"),
        ("d\n".to_owned(), "other 0\n".to_owned())
    );
}

#[test]
fn delimiters_restrict_templates_to_one_pair() {
    let (_space, server) = TestSpace::serving(
        r#"pipelines:
  both: {tasks: {a: {script: "echo '<< .x >> {{ .x }}'"}}}
  angle: {delimiters: ["<<", ">>"], tasks: {a: {script: "echo '<< .x >> {{ .x }}'"}}}
  curly: {delimiters: ["{{", "}}"], tasks: {a: {script: "echo '<< .x >> {{ .x }}'"}}}
"#,
    );
    for (pipeline, stdout) in [("both", "1 1\n"), ("angle", "1 {{ .x }}\n"), ("curly", "<< .x >> 1\n")] {
        let job = server.ended(&server.schedule_with(pipeline, &json!({"x": 1})));
        assert_eq!(server.stdout_of(&job, "a"), stdout, "{pipeline}");
    }
}

#[test]
fn scripts_are_texts_or_lists_of_lines() {
    let (_space, server) = TestSpace::serving(
        r#"pipelines:
  p:
    tasks:
      text: {script: "echo a; false; echo b"}
      list: {script: [echo a, "echo b"]}
      ends: {script: [echo a, "(exit 6)", echo b], allow_failure: false, depends_on: [text, list]}
"#,
    );
    let job = server.run_job("p");
    assert_eq!(server.stdout_of(&job, "text"), "a\nb\n");
    assert_eq!(server.stdout_of(&job, "list"), "a\nb\n");
    assert_eq!(server.stdout_of(&job, "ends"), "a\n");
    assert_eq!(task(&job, "ends")["error"], "exit status 6");
}

#[test]
fn a_task_without_lines_is_a_marker() {
    let scripts = [
        "",
        "script: ",
        "script: ''",
        "script: []",
        "script: ['']",
        "script: ['', '  ', '# only this']",
    ];
    let tasks: String = (0..)
        .zip(scripts)
        .map(|(number, script)| format!("      m{number}: {{shell: [sh, -c, 'touch ran'], {script}}}\n"))
        .collect();
    let (space, server) = TestSpace::serving(&format!("pipelines:\n  p:\n    tasks:\n{tasks}"));
    let job = server.run_job("p");
    assert_eq!(job["status"], "succeeded", "{job}");
    let tasks = job["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), scripts.len());
    for task in tasks {
        assert_eq!(
            (&task["status"], &task["durationMs"]),
            (&json!("done"), &json!(0)),
            "{task}"
        );
        assert!(task["start"].is_string() && task["start"] == task["end"], "{task}");
    }
    assert!(!space.path.join("ran").exists());
}

#[test]
fn a_task_starts_when_all_it_depends_on_have_ended_well() {
    let (space, server) = TestSpace::serving(
        r"pipelines:
  p:
    tasks:
      last: {script: [echo last >> order], depends_on: [one, two]}
      one: {script: [echo one >> order]}
      two: {script: [echo two >> order], depends_on: one}
",
    );
    let job = server.run_job("p");
    assert_eq!(space.read("order"), "one\ntwo\nlast\n");
    // Listed again and again is the first in file order all of whose dependencies are listed.
    assert_eq!(ends_of(&job), "one done, two done, last done");
    assert_eq!(task(&job, "last")["dependsOn"], json!(["one", "two"]));
    assert_eq!(task(&job, "two")["dependsOn"], json!(["one"]));
    assert!(task(&job, "one").get("dependsOn").is_none(), "{job}");
}

#[test]
fn with_allow_failure_a_task_goes_on_and_is_done() {
    let (_space, server) = TestSpace::serving(
        r#"pipelines:
  p:
    tasks:
      a: {script: [echo a, "(exit 3)", echo b, "(exit 5)", echo c], allow_failure: true}
      b: {script: [echo d], depends_on: a}
"#,
    );
    let job = server.run_job("p");
    assert_eq!(
        (text(&job["status"]), ends_of(&job)),
        ("succeeded".to_owned(), "a done 5, b done".to_owned())
    );
    assert_eq!(server.stdout_of(&job, "a"), "a\nb\nc\n");
    assert_eq!(task(&job, "a")["errored"], false);
    assert!(task(&job, "a").get("error").is_none(), "{job}");
}

#[test]
fn durations_are_numbers_with_units() {
    let cases = [
        ("10s", 10),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("2d", 172_800),
        ("90000ms", 90),
        ("5m", 300),
        ("1d1h1m1s1000ms", 90_062),
    ];
    let pipelines: String = cases
        .iter()
        .map(|(delay, _)| format!("  '{delay}': {{start_delay: {delay}, tasks: {{a: }}}}\n"))
        .collect();
    let (_space, server) = TestSpace::serving(&format!("pipelines:\n{pipelines}  '0': {{start_delay: 0}}\n"));
    for (delay, seconds) in cases {
        let job = server.job(&server.schedule(delay));
        let [created, after] = ["created", "startAfter"].map(|key| seconds_of(&text(&job[key])));
        assert_eq!(
            (text(&job["status"]), after - created),
            ("waiting".to_owned(), seconds),
            "{delay}"
        );
    }
    assert_eq!(server.run_job("0")["status"], "succeeded");
}

/// Of the years 2000 to 2099, whose leap years are those that can be divided by four.
fn seconds_of(time: &str) -> i64 {
    let numbers: Vec<i64> = time
        .split(['-', 'T', ':', 'Z'])
        .filter_map(|part| part.parse().ok())
        .collect();
    let &[year, month, day, hour, minute, second] = numbers.as_slice() else {
        panic!("{time}");
    };
    let months = [
        31,
        28 + i64::from(year % 4 == 0),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let past_months: i64 = months.iter().take(usize::try_from(month).unwrap() - 1).sum();
    let days = (year - 2000) * 365 + (year - 2000 + 3) / 4 + past_months + day;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

#[test]
fn the_yaml_of_real_files_works() {
    let (_space, server) = TestSpace::serving(concat!(
        "\u{feff}# A comment.\r\n",
        "pipelines:\r\n",
        "  p: # another\r\n",
        "    tasks:\r\n",
        "      first: &first\r\n",
        "        script:\r\n",
        "          - echo a\r\n",
        "        env: {A: b}\r\n",
        "      again: *first\r\n",
        "      merged: {<<: *first, script: [\"echo $A\"]}\r\n",
        "      literal:\r\n",
        "        script:\r\n",
        "          - |\r\n",
        "            echo a\r\n",
        "            for x in b c; do\r\n",
        "              echo $x\r\n",
        "            done\r\n",
        "          - >\r\n",
        "            echo d\r\n",
        "            e\r\n",
        "  nothing:\r\n",
        "    tasks:\r\n",
    ));
    let job = server.run_job("p");
    assert_eq!(ends_of(&job), "first done, again done, merged done, literal done");
    for (task, stdout) in [
        ("first", "a\n"),
        ("again", "a\n"),
        ("merged", "b\n"),
        ("literal", "a\nb\nc\nd e\n"),
    ] {
        assert_eq!(
            server.output_of(&job, task),
            (stdout.to_owned(), String::new()),
            "{task}"
        );
    }
}

#[test]
fn the_example_that_uses_most_of_it_runs() {
    let (space, server) = TestSpace::serving(
        r#"pipelines:
  content_release:
    concurrency: 1
    queue_limit: 1
    queue_strategy: replace
    retention_count: 10
    env: {APP_CONTEXT: Production}
    tasks:
      prepare:
        script:
          - ./release create << .releaseId >> --job << .__jobID >> --user << .account | quote >>
      render_1: &render
        script: ["./render-worker.sh << .releaseId >> w1"]
        depends_on: [prepare]
      render_2: {<<: *render, script: ["./render-worker.sh << .releaseId >> w2"]}
      rendered:
        script: [""]
        depends_on: [render_1, render_2]
      validate:
        script:
          - |
            << if .validate >> ./release validate << .releaseId >> << end >>
        depends_on: rendered
      notify:
        script: ["./notify done"]
        allow_failure: true
        depends_on: [validate]
    on_error:
      script:
        - ./notify "failed in << .failedTaskName >> with << .failedTaskExitCode >>"
"#,
    );
    space.write_script(
        "release",
        r#"echo "release $* $APP_CONTEXT" | sed "s/$PRUNNER_JOB_ID/ID/""#,
    );
    space.write_script(
        "render-worker.sh",
        r#"test "$1 $2" != '7 w2' || exit 8; echo "render $*""#,
    );
    space.write_script("notify", r#"echo "notify $*" | tee -a notified; exit 1"#);
    let variables = |release: Value| json!({"releaseId": release, "account": "o'neill", "validate": true});
    let job = server.ended(&server.schedule_with("content_release", &variables(json!(5))));
    assert_eq!(job["status"], "succeeded", "{job}");
    for (task, stdout) in [
        ("prepare", "release create 5 --job ID --user o'neill Production\n"),
        ("render_1", "render 5 w1\n"),
        ("render_2", "render 5 w2\n"),
        ("rendered", ""),
        ("validate", "release validate 5 Production\n"),
        ("notify", "notify done\n"),
    ] {
        assert_eq!(server.stdout_of(&job, task), stdout, "{task}");
    }
    let job = server.ended(&server.schedule_with("content_release", &variables(json!(7))));
    assert_eq!(
        (text(&job["status"]), text(&job["lastError"])),
        ("failed".to_owned(), "exit status 8".to_owned())
    );
    // Its own failure is recorded, and changes nothing else.
    assert_eq!(task(&job, "on_error")["exitCode"], 1);
    assert_eq!(
        space.read("notified"),
        "notify done\nnotify failed in render_2 with 8\n"
    );
}

#[test]
fn a_list_can_be_any_program_before_the_shell() {
    let (space, server) = TestSpace::serving(
        "pipelines: {p: {tasks: {a: {shell: [nice, -n, '10', sh], script: ['nice; echo $$ > pid', exec sleep 60]}}}}",
    );
    let id = server.schedule("p");
    let pid = space.first_line("pid");
    assert_eq!(server.stdout_of(&server.job(&id), "a"), "10\n");
    send_signal("KILL", &pid);
    let job = server.ended(&id);
    assert!(!is_alive(&pid));
    assert_eq!(ends_of(&job), "a error 137");
    assert_eq!(task(&job, "a")["error"], "signal: killed");
}
