//! Templates in script lines: what each action prints, what stays text, and what is refused when.

use serde_json::{Value, json};

use crate::space::{Server, TestSpace};
use crate::tools::{ends_of, task};

/// A line that prints a text as it is, in a task named after its number.
fn tasks(lines: &[&str]) -> String {
    let tasks = (0..).zip(lines).map(|(number, line)| {
        let script = format!("cat <<\\EOF\n{line}\nEOF");
        (format!("t{number}"), json!({"script": [script]}))
    });
    Value::Object(tasks.collect()).to_string()
}

/// Each line as it prints with the variables.
#[track_caller]
fn check(variables: &str, cases: &[(&str, &str)]) {
    let lines: Vec<&str> = cases.iter().map(|(line, _)| *line).collect();
    // JSON is YAML.
    let (_space, server) = TestSpace::serving(&format!("{{pipelines: {{p: {{tasks: {}}}}}}}", tasks(&lines)));
    let answer = server.post(
        "/pipelines/schedule",
        &format!(r#"{{"pipeline": "p", "variables": {variables}}}"#),
    );
    assert_eq!(answer.status, 202, "{}", answer.body);
    let job = server.ended(answer.json()["jobId"].as_str().unwrap());
    for (number, (line, expected)) in cases.iter().enumerate() {
        let expected = expected.replace("JOB", job["id"].as_str().unwrap());
        let stdout = server.stdout_of(&job, &format!("t{number}"));
        assert_eq!(stdout, format!("{expected}\n"), "{line}");
    }
}

#[test]
fn every_action_in_both_delimiters() {
    let variables = r#"{"x": "a b", "o": {"p": {"q": [10, {"r": "deep"}]}}, "it": "it's", "größe_1": 7,
        "yes": true, "no": false, "nil": null, "zero": 0, "blank": "", "list": [], "object": {}, "one": [0]}"#;
    let cases = [
        ("{{ .x }}", "a b"),
        ("{{.x}}-{{  .x  }}", "a b-a b"),
        ("{{ .o.p.q.0 }} {{ .o.p.q.1.r }}", "10 deep"),
        ("{{ .größe_1 }}", "7"),
        ("{{ .__jobID }}", "JOB"),
        (
            r#"{{ .y | default "text" }} {{ .o.none | default "c" }} {{ .nil | default "d" }}"#,
            "text c d",
        ),
        (
            r#"{{ .no | default "a" }} {{ .blank | default "b" }} {{ .list | default "c" }} {{ .object | default "d" }}"#,
            "a b c d",
        ),
        (
            r#"{{ .zero | default "a" }} {{ .x | default "b" }} {{ .yes | default "c" }}"#,
            "0 a b true",
        ),
        (
            "{{ .it | quote }} {{ .x | quote }} {{ .blank | quote }}",
            r"'it'\''s' 'a b' ''",
        ),
        (r#"{{ .y | default "a b" | quote }}"#, "'a b'"),
        ("{{ if .x }}yes{{ end }}", "yes"),
        (
            "{{ if .zero }}a{{ else if .nil }}b{{ else if .yes }}c{{ else }}d{{ end }}",
            "c",
        ),
        (
            "{{ if .no }}a{{ else if .blank }}b{{ else if .list }}c{{ else if .object }}d{{ else }}e{{ end }}",
            "e",
        ),
        (
            "{{ if not .zero }}a{{ end }}{{ if not .x }}b{{ end }}{{ if .one }}c{{ end }}",
            "ac",
        ),
        ("{{ if .x }}{{ if .no }}a{{ else }}b{{ end }}{{ end }}", "b"),
        ("a  {{- .x -}}  b", "aa bb"),
        ("a {{- if .x -}} b {{- end -}} c", "abc"),
        ("{{ if .x }}\none\n{{ end }}", "\none\n"),
        ("{{\n.x\n}}", "a b"),
    ];
    check(variables, &cases);
    let angle: Vec<(String, &str)> = cases
        .iter()
        .map(|(line, expected)| (line.replace("{{", "<<").replace("}}", ">>"), *expected))
        .collect();
    let angle: Vec<(&str, &str)> = angle
        .iter()
        .map(|(line, expected)| (line.as_str(), *expected))
        .collect();
    check(variables, &angle);
}

#[test]
fn texts_stand_in_curly_marks_alone() {
    check(
        "{}",
        &[
            (r#"{{ "{{" }}.Names{{ "}}" }}"#, "{{.Names}}"),
            (r#"{{ "a \" \\ b" }}"#, r#"a " \ b"#),
            (r#"<< "a" >>"#, r#"<< "a" >>"#),
        ],
    );
}

#[test]
fn how_values_print() {
    check(
        r#"{"text": "a  b\tc", "million": 1e6, "same": 1000000, "float": 1.50, "small": 1e-7, "negative": -3,
            "long": 123456789012345678901234567890, "whole": 2.0, "yes": true, "no": false, "nil": null,
            "list": [1, "a", null, {"z": 1, "a": 2.0}], "object": {"z": 1, "a": {"y": [], "b": "ü"}}, "again": "{{ .text }} << .text >>"}"#,
        &[
            ("{{ .text }}", "a  b\tc"),
            (
                "{{ .million }} {{ .same }} {{ .whole }} {{ .negative }}",
                "1000000 1000000 2 -3",
            ),
            ("{{ .float }}", "1.5"),
            ("{{ .long }}", "123456789012345678901234567890"),
            ("{{ .yes }} {{ .no }} [{{ .nil }}]", "true false []"),
            ("{{ .list }}", r#"[1,"a",null,{"z":1,"a":2}]"#),
            ("{{ .object }}", r#"{"z":1,"a":{"y":[],"b":"ü"}}"#),
            ("{{ .again }}", "{{ .text }} << .text >>"),
        ],
    );
}

#[test]
fn what_is_no_action_stays_as_it_is() {
    let lines = [
        "cat << EOF",
        "cat <<\"END\" >> file",
        "<<-END",
        "<<< .x",
        "<<<< .x >>>>",
        "x=$((1<<3))",
        "cat << end >> file",
        "cat << else >> file",
        "cat << .x; a",
        "<< .x | upper >>",
        "<< x >>",
        "<< .a-b >>",
        "${x} { .x } {.x}",
    ];
    let cases: Vec<(&str, &str)> = lines.iter().map(|line| (*line, *line)).collect();
    check(r#"{"x": 1}"#, &cases);
    check(
        r#"{"x": 1}"#,
        &[
            ("cat << EOF << .x >>", "cat << EOF 1"),
            ("cat << .x; << .x >>", "cat << .x; 1"),
        ],
    );
}

#[test]
fn a_value_behind_quote_is_one_word_for_every_shell() {
    let (_space, server) =
        TestSpace::serving(r#"pipelines: {p: {tasks: {a: {script: "printf '[%s]' << .x | quote >> end"}}}}"#);
    for value in [
        "it's",
        "a b\nc",
        "$(touch x) `id` $HOME",
        "-n",
        "\"'\\",
        "",
        "*",
        "{{ .x }}",
        "\u{1f600}",
    ] {
        let job = server.ended(&server.schedule_with("p", &json!({"x": value})));
        assert_eq!(server.stdout_of(&job, "a"), format!("[{value}][end]"));
    }
}

#[track_caller]
fn check_refused(server: &Server, pipeline: &str, variables: &Value, expected: &str) {
    let request = json!({"pipeline": pipeline, "variables": variables});
    let answer = server.post("/pipelines/schedule", &request.to_string());
    let error = format!("Error scheduling pipeline: {expected}");
    assert_eq!(
        (answer.status, answer.json()),
        (400, json!({"error": error, "code": "bad_variables"})),
    );
}

#[test]
fn an_undefined_variable_refuses_the_request() {
    let (space, server) = TestSpace::serving(
        r#"pipelines:
  p:
    tasks:
      a: {script: [touch ran, "echo << .x.y >>"]}
      b: {script: ["<< if .cond >>a<< end >>"], depends_on: a}
      c: {script: ["<< if .x >><< .inner >><< end >>"], depends_on: a}
    on_error: {script: ["echo << .failedTaskName >> << .failedTaskStdout >> << .late >>"]}
  docker: {tasks: {a: {script: ["docker ps --format '{{.Names}}'"]}}}
  error: {tasks: {a: {script: ["echo << .failedTaskName >>"]}}}
"#,
    );
    let complaints = "variable `x.y` is not defined, used in task `a`, line 2; \
                      variable `cond` is not defined, used in task `b`, line 1; \
                      variable `x` is not defined, used in task `c`, line 1; \
                      variable `late` is not defined, used in task `on_error`, line 1";
    check_refused(&server, "p", &json!({}), complaints);
    let some = json!({"x": {"y": 1}, "cond": null, "late": ""});
    check_refused(
        &server,
        "p",
        &some,
        "variable `inner` is not defined, used in task `c`, line 1",
    );
    let request = json!({"pipeline": "docker"}).to_string();
    let text = server.post("/pipelines/schedule", &request).json()["error"].to_string();
    for part in [
        "`Names`",
        "task `a`, line 1",
        r#"{{ \"{{.Names}}\" }}"#,
        r#"delimiters: [\"<<\", \">>\"]"#,
    ] {
        assert!(text.contains(part), "`{part}` is missing in {text}");
    }
    let undefined = "variable `failedTaskName` is not defined, used in task `a`, line 1";
    check_refused(&server, "error", &json!({}), undefined);
    let jobs = server.get("/pipelines/jobs").json();
    assert_eq!(jobs["jobs"], json!([]));
    assert!(!space.path.join("ran").exists());
    let all = json!({"x": {"y": 1}, "cond": 0, "late": "", "inner": ":"});
    let job = server.ended(&server.schedule_with("p", &all));
    assert_eq!(ends_of(&job), "a done, b done, c done");
    assert_eq!(task(&job, "on_error"), &Value::Null);
}

#[test]
fn reserved_names_and_nul_are_refused() {
    let (_space, server) = TestSpace::serving("pipelines: {p: {}}");
    for (variables, expected) in [
        (json!({"__jobID": "a"}), "variable name `__jobID` is reserved"),
        (
            json!({"failedTaskName": 1}),
            "variable name `failedTaskName` is reserved",
        ),
        (
            json!({"failedTaskFoo": null}),
            "variable name `failedTaskFoo` is reserved",
        ),
        (json!({"x": "a\0"}), "variable `x` holds a NUL character"),
        (json!({"x": [{"a": "\0"}]}), "variable `x` holds a NUL character"),
        (json!({"x": {"a\0": 1}}), "variable `x` holds a NUL character"),
        (json!({"a\0b": 1}), r"variable `a\0b` holds a NUL character"),
    ] {
        check_refused(&server, "p", &variables, expected);
    }
}
