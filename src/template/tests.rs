//! What a script line becomes: every action, every text that only looks like one, every message.
//!
//! Surprise: the lines are written with `<<`; `check_both` tries each with `{{` too.

use std::process::Command;

use serde_json::{Value, json};

use super::{Delimiters, Part, Scope, Template, Undefined, Variables, print, quote};

/// The variables of most of the tests below.
const VARIABLES: &str = r#"{
    "x": "value", "y": "other", "a": {"b": {"c": "deep"}, "list": ["first", {"name": "second"}]}, "list": ["p", "q"],
    "yes": true, "no": false, "null": null, "empty": "", "emptyList": [], "emptyObject": {}, "zero": 0, "one": 1,
    "word": "it's", "action": "{{ .y }} << .y >>", "größe": "L", "名前": "n", "имя_2": "i", "0": "zeroth"
}"#;

fn variables(json: &str) -> Variables {
    serde_json::from_str(json).unwrap()
}

fn parse(line: &str) -> Template {
    match Template::parse(line, Delimiters::Both) {
        Ok(template) => template,
        Err(error) => panic!("`{line}` does not parse: {}", error.message),
    }
}

fn render(line: &str, json: &str) -> Result<String, Undefined> {
    let given = variables(r#"{"__jobID": "0198-id"}"#);
    let variables = variables(json);
    let scope = Scope {
        variables: &variables,
        given: &given,
        later: &[],
    };
    let template = parse(line);
    let rendered = template.render(&scope);
    // What is accepted is what renders.
    assert_eq!(template.check(&scope), rendered.clone().map(|_| ()), "{line}");
    rendered
}

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(render(line, VARIABLES), Ok(expected.to_owned()), "{line}");
}

/// As `check`, for the line as it is and with `{{` and `}}` for its `<<` and `>>`.
#[track_caller]
fn check_both(line: &str, expected: &str) {
    check(line, expected);
    check(&line.replace("<<", "{{").replace(">>", "}}"), expected);
}

#[track_caller]
fn check_text(line: &str) {
    check(line, line);
    assert_eq!(parse(line).warnings(), [""; 0], "{line}");
}

#[track_caller]
fn check_undefined(line: &str, variable: &str) {
    assert_eq!(
        render(line, VARIABLES).map_err(|undefined| undefined.variable),
        Err(variable.to_owned()),
        "{line}"
    );
}

#[track_caller]
fn check_error(line: &str, expected: &str) {
    let error = Template::parse(line, Delimiters::Both).expect_err(line);
    assert_eq!(error.message, expected);
}

#[track_caller]
fn check_unsupported(line: &str, expected: &str) {
    let message = Template::parse(line, Delimiters::Both).expect_err(line).message;
    assert!(message.starts_with(expected), "{message}");
    assert!(
        message.ends_with(r#"write `{{ "{{" }}` for `{{`, or set `delimiters: ["<<", ">>"]`"#),
        "{message}"
    );
}

#[test]
fn a_variable_is_replaced_by_its_value() {
    check_both("<< .x >>", "value");
    check_both("<<.x>>", "value");
    check_both("echo <<  .x\t>>!", "echo value!");
    check_both("<<\n.x\n>>", "value");
    check_both("<< .x >><< .y >>", "valueother");
    check("<< .x >> {{ .y }}", "value other");
    check_both("<< .a.b.c >>", "deep");
    check_both("<< .list.0 >><< .list.1 >>", "pq");
    check_both("<< .a.list.1.name >>", "second");
    check_both("<< .größe >><< .名前 >><< .имя_2 >><< .0 >>", "Lnizeroth");
    check_both("<< .__jobID >>", "0198-id");
    check("no action", "no action");
    check("", "");
}

#[test]
fn what_stands_beside_an_action_is_kept() {
    check(r#"{"a":{"b":{{ .one }}}}"#, r#"{"a":{"b":1}}"#);
    check("${FOO:-{{ .x }}}", "${FOO:-value}");
    check("${{ .x }}", "$value");
    check("<< .x >>>file", "value>file");
    check("äöü<< .x >>€", "äöüvalue€");
    check("{<< .x >>}", "{value}");
    check("<{{ .x }}>", "<value>");
}

#[test]
fn a_value_is_never_rendered_again() {
    check_both("<< .action >>", "{{ .y }} << .y >>");
    check(r#"{{ .nope | default "{{ .y }}" }}"#, "{{ .y }}");
    check(r#"<< .nope | default "<< .y >>" >>"#, "<< .y >>");
}

#[test]
fn given_names_come_first() {
    let given = variables(r#"{"x": "given"}"#);
    let variables = variables(r#"{"x": "variable", "y": "variable"}"#);
    let scope = Scope {
        variables: &variables,
        given: &given,
        later: &["y"],
    };
    assert_eq!(parse("<< .x >> << .y >>").render(&scope).unwrap(), "given variable");
}

#[test]
fn an_undefined_variable_is_an_error() {
    for (line, variable) in [
        ("<< .nope >>", "nope"),
        ("<< .a.nope.c >>", "a.nope.c"),
        ("<< .x.y >>", "x.y"),
        ("<< .null.y >>", "null.y"),
        ("<< .list.2 >>", "list.2"),
        ("<< .list.01 >>", "list.01"),
        ("<< .list.name >>", "list.name"),
        ("<< .list.99999999999999999999999 >>", "list.99999999999999999999999"),
        ("<< .__jobID.x >>", "__jobID.x"),
        ("<< .nope | quote >>", "nope"),
        (r#"<< .nope | quote | default "a" >>"#, "nope"),
        ("<< if .nope >><< end >>", "nope"),
        ("<< if not .nope >><< end >>", "nope"),
        ("<< if .no >><< else if .nope >><< end >>", "nope"),
        ("<< if .yes >><< .nope >><< end >>", "nope"),
        ("<< if .no >><< else >><< .nope >><< end >>", "nope"),
    ] {
        check_undefined(line, variable);
        check_undefined(&line.replace("<<", "{{").replace(">>", "}}"), variable);
    }
    // A branch that is not taken needs nothing.
    check_both("<< if .no >><< .nope >><< end >>", "");
    check_both("<< if .yes >><< else if .nope >><< end >>", "");
}

#[test]
fn the_hint_says_how_to_write_another_programs_template() {
    let hint = |line: &str| render(line, VARIABLES).unwrap_err().hint;
    let expected = |action: &str| {
        Some(format!(
            "if it is meant for another program, write {action}, or set `delimiters: [\"<<\", \">>\"]`"
        ))
    };
    assert_eq!(
        hint("docker ps --format '{{.Names}}'"),
        expected(r#"`{{ "{{.Names}}" }}`"#)
    );
    assert_eq!(
        hint("{{- .nope | quote -}}"),
        expected(r#"`{{ "{{- .nope | quote -}}" }}`"#)
    );
    let with_text = r#"{{ .nope | quote | default "a\\" }}"#;
    assert_eq!(
        hint(with_text),
        expected(r#"`{{ "{{ .nope | quote | default \"a\\\\\" }}" }}`"#)
    );
    assert_eq!(hint("{{ if .nope }}{{ end }}"), expected(r#"`{{ "{{" }}` for `{{`"#));
    assert_eq!(
        hint(&format!("{{{{ .{} }}}}", "n".repeat(1000))),
        expected(r#"`{{ "{{" }}`"#)
    );
    assert_eq!(hint("<< .nope >>"), None);
    assert_eq!(hint("<< if .nope >><< end >>"), None);

    // What the hint says is true.
    check(
        r#"docker ps --format '{{ "{{.Names}}" }}'"#,
        "docker ps --format '{{.Names}}'",
    );
    check(r#"{{ "{{ .nope | quote | default \"a\\\\\" }}" }}"#, with_text);
    let angle = Template::parse("docker ps --format '{{.Names}}' << .x >>", Delimiters::Angle).unwrap();
    let (given, variables) = (Variables::new(), variables(VARIABLES));
    let scope = Scope {
        variables: &variables,
        given: &given,
        later: &[],
    };
    assert_eq!(angle.render(&scope).unwrap(), "docker ps --format '{{.Names}}' value");
}

#[test]
fn default_replaces_what_is_missing() {
    for name in [
        "nope",
        "null",
        "no",
        "empty",
        "emptyList",
        "emptyObject",
        "a.nope",
        "x.y.z",
        "list.7",
    ] {
        check_both(&format!("<< .{name} | default \"text\" >>"), "text");
    }
    check_both(r#"<< .x | default "text" >>"#, "value");
    check_both(r#"<< .zero | default "text" >>"#, "0");
    check_both(r#"<< .yes | default "text" >>"#, "true");
    check_both(r#"<< .list | default "text" >>"#, r#"["p","q"]"#);
    check_both(r#"<< .nope | default "" >>"#, "");
    check_both(r#"<<.nope|default "text">>"#, "text");
    check_both(r#"<< .nope | default "say \"a\\b\"" >>"#, r#"say "a\b""#);
    check(r#"<< .nope | default ">>" >>"#, ">>");
    check(r#"{{ .nope | default "}}" }}"#, "}}");
    check_both("<< .nope | default \"a\nb\" >>", "a\nb");
    check_both("<< .nope\n  | default\n  \"text\"\n>>", "text");
}

#[test]
fn filters_are_applied_from_left_to_right() {
    check_both(r#"<< .nope | default "a b" | quote >>"#, "'a b'");
    check_both(r#"<< .nope | default "" | default "b" | default "c" >>"#, "b");
    check_both(r#"<< .empty | quote | default "b" >>"#, "''");
    check_both(r#"<< .x | default "a" | quote | quote >>"#, r"''\''value'\'''");
    check_both("<< .no | quote >>", "'false'");
    check_both(
        "<< .x | quote | quote | quote | quote >>",
        &quote(&quote(&quote(&quote("value")))),
    );
}

#[test]
fn quote_makes_one_word() {
    check_both("<< .word | quote >>", r"'it'\''s'");
    check_both("<< .null | quote >>", "''");
    check_both("<< .list | quote >>", r#"'["p","q"]'"#);
    check_both("<< .one | quote >>", "'1'");
}

#[test]
fn a_shell_reads_back_what_was_quoted() {
    let every_character: String = (1..=0x2ff).filter_map(char::from_u32).collect();
    let texts = [
        "",
        " ",
        "it's",
        "'",
        "''''",
        "\\",
        "\\'",
        "'\\''",
        "\n",
        "a\n",
        "\n\n",
        "\r\n",
        "\t",
        "$HOME",
        "`id`",
        "$(id)",
        "!!",
        "*",
        "~",
        "-n",
        "--",
        "#",
        "a;b&c|d",
        "%s\\n",
        "\"",
        "\"'\"",
        "{{ .y }}",
        "<< EOF",
        "\u{1}\u{7f}\u{1b}[0m",
        "\u{85}\u{2028}",
        "日本語 😀 e\u{301}",
        "\u{feff}",
        "\u{10ffff}",
        &every_character,
    ];
    for text in texts {
        let json = json!({ "x": text }).to_string();
        let line = render("printf %sEND {{ .x | quote }}", &json).unwrap();
        assert_eq!(shell(&line), format!("{text}END"), "{text:?}");
        // Twice, as for a shell behind `ssh`.
        let line = render("eval printf %sEND {{ .x | quote | quote }}", &json).unwrap();
        assert_eq!(shell(&line), format!("{text}END"), "{text:?}");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "only a real shell tells whether a word is quoted well"
)]
fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_if_takes_its_first_branch_that_holds() {
    check_both("<< if .yes >>a<< end >>", "a");
    check_both("<< if .no >>a<< end >>", "");
    check_both("<<if .no>>a<<else>>b<<end>>", "b");
    check_both("1<< if .no >>a<< else if .yes >>b<< else >>c<< end >>2", "1b2");
    check_both("<< if .no >>a<< else if .no >>b<< else >>c<< end >>", "c");
    check_both("<< if .no >>a<< else if .no >>b<< end >>", "");
    check_both("<< if .no >>a<< else if not .no >>b<< else if .yes >>c<< end >>", "b");
    check_both("<< if .yes >>a<< if .no >>b<< else >>c<< end >>d<< end >>e", "acde");
    check_both(
        "<< if .no >>a<< if .yes >>b<< end >>c<< else >>d<< if .yes >>e<< end >>f<< end >>g",
        "defg",
    );
    check_both("<< if .yes >><< end >>", "");
    check_both("<<\nif\n.yes\n>>a<< else\nif .x >>b<< end\n>>", "a");
    check_both("<< if .a.b.c >>a<< end >>", "a");
    // A variable may bear the name of a keyword.
    let keywords = r#"{"if": 1, "not": true, "end": "e", "default": "d"}"#;
    let line = "{{ if .not }}{{ if not .not }}a{{ end }}{{ .end }}{{ .default }}{{ .if }}{{ end }}";
    assert_eq!(render(line, keywords), Ok("ed1".to_owned()));
}

#[test]
fn either_pair_closes_what_the_other_opened() {
    check("{{ if .no }}a<< else >>b<< end >>", "b");
    check("<< if .yes >>a{{ if .no }}b<< end >>c{{ end }}", "ac");
}

#[test]
fn truth_values() {
    for (value, expected) in [
        ("null", false),
        ("false", false),
        ("true", true),
        ("0", false),
        ("-0", false),
        ("0.0", false),
        ("-0.000", false),
        ("0e5", false),
        ("0E-5", false),
        ("0.0e99999999999999999999", false),
        ("1", true),
        ("-1", true),
        ("0.001", true),
        ("1e-999", true),
        ("1e999", true),
        (r#""""#, false),
        (r#"" ""#, true),
        (r#""0""#, true),
        (r#""false""#, true),
        ("[]", false),
        ("[0]", true),
        ("{}", false),
        (r#"{"a":null}"#, true),
    ] {
        let json = format!("{{\"x\": {value}}}");
        let plain = render("<< if .x >>true<< else >>false<< end >>", &json);
        assert_eq!(plain, Ok(expected.to_string()), "{value}");
        let negated = render("<< if not .x >>false<< else >>true<< end >>", &json);
        assert_eq!(negated, Ok(expected.to_string()), "{value}");
    }
}

#[test]
fn printing() {
    for (value, expected) in [
        (r#""as it is\n\"""#, "as it is\n\""),
        ("true", "true"),
        ("false", "false"),
        ("null", ""),
        ("1000000", "1000000"),
        ("1e6", "1000000"),
        ("1E+6", "1000000"),
        ("-1.0e3", "-1000"),
        ("1.0", "1"),
        ("100.00", "100"),
        ("10e-1", "1"),
        ("12.5e1", "125"),
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e99999999999999999999", "0"),
        ("1.50", "1.5"),
        ("-2.750e0", "-2.75"),
        ("0.1", "0.1"),
        ("0.10000000000000001", "0.1"),
        ("15e-1", "1.5"),
        ("3.14159265358979", "3.14159265358979"),
        ("0.000001", "0.000001"),
        ("1e-7", "1e-7"),
        ("1.25E-10", "1.25e-10"),
        ("5e-324", "5e-324"),
        ("18446744073709551616", "18446744073709551616"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("-123456789012345678901234567890", "-123456789012345678901234567890"),
        ("123456789012345678901234567890.0", "123456789012345678901234567890"),
        ("1.23456789012345678901234567890e29", "123456789012345678901234567890"),
        ("1e400", "1e+400"),
        ("1e1000000", "1e+1000000"),
        ("1e-1000000", "1e-1000000"),
        ("1e99999999999999999999", "1e+99999999999999999999"),
        ("1e-99999999999999999999", "1e-99999999999999999999"),
        ("1e9223372036854775807", "1e+9223372036854775807"),
        ("1.5e-9223372036854775808", "1.5e-9223372036854775808"),
        ("[]", "[]"),
        ("{}", "{}"),
        (
            r#"{ "z": 1, "a": [ 1.0, 1e6, 1.50, null, "ü\"\n" ] }"#,
            r#"{"z":1,"a":[1,1000000,1.5,null,"ü\"\n"]}"#,
        ),
    ] {
        let value: Value = serde_json::from_str(value).unwrap();
        assert_eq!(print(&value), expected, "{value}");
    }
    let largest = serde_json::from_str("1.7976931348623157e308").unwrap();
    assert_eq!(print(&largest), format!("17976931348623157{}", "0".repeat(292)));
    let long = format!("1{}.0", "0".repeat(5000));
    assert_eq!(
        print(&serde_json::from_str(&long).unwrap()),
        long.trim_end_matches(".0")
    );
    let tiny = format!("0.{}1e1001", "0".repeat(1000));
    assert_eq!(print(&serde_json::from_str(&tiny).unwrap()), "1");
    assert_eq!(print(&json!(1.5)), "1.5");
    assert_eq!(print(&json!(3.0)), "3");
    assert_eq!(print(&json!(u64::MAX)), "18446744073709551615");
}

#[test]
fn quoted_texts_print_themselves() {
    check(r#"{{ "text" }}"#, "text");
    check(r#"{{ "{{" }} .x {{ "}}" }}"#, "{{ .x }}");
    check(r#"{{"{{ .x }}"}}"#, "{{ .x }}");
    check(r#"{{ "<< .x >>" }}"#, "<< .x >>");
    check(r#"{{ "a\"b\\c" }}"#, r#"a"b\c"#);
    check(r#"a{{ "" }}b"#, "ab");
    check(r#"a {{- " b " -}} c"#, "a b c");
}

#[test]
fn trim_marks_remove_white_space() {
    check("a \t\n <<- .x ->> \n b", "avalueb");
    check("a {{- .x -}} b", "avalueb");
    check("a {{- .x }} b", "avalue b");
    check("a {{ .x -}} b", "a valueb");
    check("a <<- .x >> b << .y ->> c", "avalue b otherc");
    check("a {{-.x-}} b", "avalueb");
    check("{{ .x -}} {{- .y }}", "valueother");
    check("{{ .x -}} \n ", "value");
    check("\n {{- .x }}", "value");
    check("{{ if .yes -}}\n  a\n{{- end }}", "a");
    check("{{ if .yes -}}\n  a\n{{- else -}} b {{- end }} c", "a c");
    check("a <<- if .no ->> b <<- end ->> c", "ac");
    // Only the text of the line: never what a value brings along.
    let spaced = r#"{"x": " v "}"#;
    assert_eq!(render("{{ .x -}} {{- .x }}", spaced), Ok(" v  v ".to_owned()));
    check("a << EOF {{- .x -}} << EOF", "a << EOFvalue<< EOF");
}

#[test]
fn what_only_looks_like_an_action_is_text() {
    for line in [
        "cat << EOF",
        "cat << EOF > file\n$x\nEOF",
        r#"cat <<"EOF" >> file"#,
        "cat <<'EOF' >> file",
        "cat <<EOF >> file",
        "cat <<-EOF",
        "cat <<-EOF >> file",
        "cat << end >> file",
        "cat <<end>> file\na\nend",
        "cat <<- end >> file",
        "cat << else >> file",
        "cat << else if .x >> file",
        "cat << if >> file",
        "cat << ende >> file",
        "cat << end.of.file >> file",
        r#"cat <<<"$x""#,
        "cat <<< word >> file",
        "cat <<< .x >> file",
        "cat <<<< .x >> file",
        "x=$((1<<3))",
        "x=$((1 << 3 >> 2))",
        "x=$((1<<if))",
        "<<",
        "<< ",
        ">>",
        "<",
        "{",
        "}}",
        "{ .x }",
        "echo >> file",
        r#"<< "text" >>"#,
        "<< . >>",
        "<< $x >>",
        "<< range >>",
        "awk '{print $1}'",
        r#"echo '{"a":{"b":1}}'"#,
    ] {
        check_text(line);
    }
    check("cat << EOF << .x >>", "cat << EOF value");
    check("cat << end >> << .x >>", "cat << end >> value");
    check("<< if .x >>cat << EOF<< end >> << end >>", "cat << EOF << end >>");
}

#[test]
fn an_angle_action_that_is_not_whole_is_text_with_a_warning() {
    for (line, warning) in [
        (
            r#"echo << .x | defualt "a" >>"#,
            r#"`defualt` in `<< .x | defualt "a" >>` is not supported: the filters are `default "text"` and `quote`; as it is, it stays text"#,
        ),
        ("<< .x", "`<< .x` has no `>>`; as it is, it stays text"),
        (
            "<< .a-b >>",
            "`-b` in `<< .a-b >>` is not supported: a variable is `.name` or `.a.b`, names are letters, digits and `_`, and only \
             `| default \"text\"` and `| quote` may follow; as it is, it stays text",
        ),
        (
            "<< if .x == \"a\" >>",
            "`==` in `<< if .x == \"a\" >>` is not supported: a condition is `if .name` or `if not .name`, without filters; \
             as it is, it stays text",
        ),
        (
            "echo a\necho << .x }}\n",
            "line 2, column 6: `}}` in `<< .x }}` is not supported: a variable is `.name` or `.a.b`, names are letters, digits \
             and `_`, and only `| default \"text\"` and `| quote` may follow; as it is, it stays text",
        ),
    ] {
        check(line, line);
        assert_eq!(parse(line).warnings(), [warning]);
    }
    for line in [
        "<< .x. >>",
        "<< .x | >>",
        "<< .x | default >>",
        "<< .x | default text >>",
        r#"<< .x | default"text" >>"#,
        r#"<< .x | default "text >>"#,
        r#"<< .x | default "\n" >>"#,
        r#"<< .x | default "a" "b" >>"#,
        "<< .x | quote quote >>",
        "<< .x | quote | quote | quote | quote | quote >>",
        "<< .x || quote >>",
        "<< .x .y >>",
        "<< .x > >",
        "<<- .x - >>",
        "<< if .x | quote >>",
    ] {
        check(line, line);
        assert_eq!(parse(line).warnings().len(), 1, "{line}");
    }
    assert_eq!(parse(&"<< .x ".repeat(50)).warnings().len(), 10);
    assert_eq!(parse("<< .x >> {{ .y }}").warnings(), [""; 0]);
}

#[test]
fn a_curly_action_that_is_not_supported_is_an_error() {
    for (line, expected) in [
        (
            "{{ range .x }}{{ . }}{{ end }}",
            "`range` in `{{ range .x }}` is not supported: the actions are `.name`",
        ),
        ("{{ with .x }}", "`with` in `{{ with .x }}` is not supported"),
        (
            r#"{{ printf "%s" .x }}"#,
            r#"`printf` in `{{ printf "%s" .x }}` is not supported"#,
        ),
        ("{{ template }}", "`template` in `{{ template }}` is not supported"),
        ("{{ define }}", "`define` in"),
        ("{{ block }}", "`block` in"),
        ("{{ iffy }}", "`iffy` in"),
        ("{{ elseif .x }}", "`elseif` in"),
        ("{{/* comment */}}", "`/*` in `{{/* comment */}}` is not supported"),
        ("{{ $x := 1 }}", "`$x` in"),
        ("{{ . }}", "`.` in `{{ . }}` is not supported: a variable is `.name`"),
        ("{{}}", "`}}` in `{{}}` is not supported"),
        ("{{ }}", "`}}` in `{{ }}` is not supported"),
        ("{{ 5 }}", "`5` in"),
        ("{{{ .x }}}", "`{` in"),
        (
            r#"echo '{{"a":1}}'"#,
            r#"`:1` in `{{"a":1}}` is not supported: nothing may follow here"#,
        ),
        (r#"{{ "a" | quote }}"#, "`|` in"),
        (
            r#"{{ "a\n" }}"#,
            r#"`\n"` in `{{ "a\n" }}` is not supported: the only escapes are `\"` and `\\`"#,
        ),
        (
            r#"{{ "a }}"#,
            r#"`"a` in `{{ "a }}` is not supported: a text ends with `"`"#,
        ),
        (
            "{{ .a-b }}",
            "`-b` in `{{ .a-b }}` is not supported: a variable is `.name` or `.a.b`, names are letters",
        ),
        ("{{ .a.-b }}", "`.-b` in"),
        ("{{ .a. }}", "`.` in"),
        (
            "{{ .x | upper }}",
            r#"`upper` in `{{ .x | upper }}` is not supported: the filters are `default "text"` and `quote`;"#,
        ),
        ("{{ .x | default .y }}", "`.y` in"),
        ("{{ .x | default }}", "`}}` in"),
        (
            "{{ .x | quote | quote | quote | quote | quote }}",
            "`quote` in `{{ .x | quote | quote | quote | quote | quote }}`",
        ),
        (
            r#"{{ if eq .x "a" }}a{{ end }}"#,
            r#"`eq` in `{{ if eq .x "a" }}` is not supported: a condition is `if .name`"#,
        ),
        ("{{ if .x | quote }}a{{ end }}", "`|` in"),
        ("{{ if and .x .y }}", "`and` in"),
        ("{{ if not not .x }}", "`not` in"),
        ("{{ if nothing }}", "`nothing` in"),
        ("{{ if.x }}", "`.x` in"),
        ("{{ if }}", "`}}` in"),
        ("{{ else foo }}", "`foo` in"),
        ("{{ else if foo }}", "`foo` in"),
        ("{{ end if }}", "`if` in"),
        ("{{ .x >>", "`>>` in `{{ .x >>` is not supported"),
        ("{{ .x } }", "`}` in"),
        ("{{ .x", "`{{ .x` has no `}}`"),
        ("{{ .x -", "`-` in"),
        ("{{", "`{{` has no `}}`"),
        (
            "a\n b {{ range }}",
            "line 2, column 4: `range` in `{{ range }}` is not supported",
        ),
        ("ä {{ range }}\n\n", "`range` in"),
        (
            "ä {{ range\n.x }}",
            "line 1, column 3: `range` in `{{ range` is not supported",
        ),
        (
            &format!("{{{{ {} }}}}", "r".repeat(1000)),
            "`rrrrrrrrrrrrrrrrrrrr…` in `{{ rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr…` is not supported",
        ),
    ] {
        check_unsupported(line, expected);
    }
    check_error(
        "{{ range .x }}",
        "`range` in `{{ range .x }}` is not supported: the actions are `.name`, `.name | default \"text\" | quote`, \
         `if .name`, `if not .name`, `else if .name`, `else`, `end` and `\"text\"`; where it is meant for another program, \
         write `{{ \"{{\" }}` for `{{`, or set `delimiters: [\"<<\", \">>\"]`",
    );
}

#[test]
fn ifs_are_well_formed() {
    check_error("{{ if .x }}echo", "`{{ if .x }}` has no `{{ end }}`");
    check_error("<< if .x >>echo", "`<< if .x >>` has no `<< end >>`");
    check_error("<< if .x >><< if .y >><< end >>", "`<< if .x >>` has no `<< end >>`");
    check_error(
        "a\n<< if .x >>\n<< if .y >>",
        "line 3, column 1: `<< if .y >>` has no `<< end >>`",
    );
    check_error("{{ end }}", "`{{ end }}` closes no `if`: none is open");
    check_error("{{ else }}", "`{{ else }}` belongs to no `if`: none is open");
    check_error(
        "{{ else if .x }}",
        "`{{ else if .x }}` belongs to no `if`: none is open",
    );
    let message = "comes behind the `else` of the same `if`: only `end` may";
    check_error(
        "<< if .x >><< else >><< else >><< end >>",
        &format!("`<< else >>` {message}"),
    );
    check_error(
        "{{ if .x }}{{ else }}{{ else if .y }}{{ end }}",
        &format!("`{{{{ else if .y }}}}` {message}"),
    );
    check_error(
        "a\n  {{ end }}\n",
        "line 2, column 3: `{{ end }}` closes no `if`: none is open",
    );
}

#[test]
fn delimiters_restrict_to_one_pair() {
    let (given, variables) = (Variables::new(), variables(VARIABLES));
    let scope = Scope {
        variables: &variables,
        given: &given,
        later: &[],
    };
    let line = "<< .x >> {{ .y }} << if .no >>";
    let curly = Template::parse(line, Delimiters::Curly).unwrap();
    assert_eq!(curly.render(&scope).unwrap(), "<< .x >> other << if .no >>");
    assert_eq!(
        Template::parse("<< .x | nope", Delimiters::Curly).unwrap().warnings(),
        [""; 0]
    );
    let angle = Template::parse("{{ range }} {{ .y << .x >>", Delimiters::Angle).unwrap();
    assert_eq!(angle.render(&scope).unwrap(), "{{ range }} {{ .y value");
    assert!(Template::parse("{{ range }}", Delimiters::Curly).is_err());
    assert!(Template::parse("<< if .x >>", Delimiters::Angle).is_err());
}

#[test]
fn a_check_takes_later_names_as_texts_not_known_yet() {
    #[track_caller]
    fn check_later(line: &str, expected: Result<(), &str>) {
        let (given, variables) = (Variables::new(), variables(VARIABLES));
        let scope = Scope {
            variables: &variables,
            given: &given,
            later: &["later", "y"],
        };
        let found = parse(line).check(&scope).map_err(|undefined| undefined.variable);
        assert_eq!(found, expected.map_err(str::to_owned), "{line}");
        if line.contains(".later >>") {
            // While rendering, nothing is later.
            assert!(parse(line).render(&scope).is_err(), "{line}");
        }
    }
    check_later("<< .later >>", Ok(()));
    check_later("<< .later | quote >>", Ok(()));
    check_later("<< .later.x >>", Err("later.x"));
    check_later("<< .later | default \"a\" >>", Ok(()));
    check_later("<< if .later >>a<< end >>", Ok(()));
    check_later("<< if .later >><< .nope >><< end >>", Err("nope"));
    check_later("<< if .later >><< else >><< .nope >><< end >>", Err("nope"));
    check_later("<< if not .later >><< else >><< .nope >><< end >>", Err("nope"));
    check_later("<< if .later >><< else if .nope >><< end >>", Err("nope"));
    check_later(
        "<< if .later >><< else if .yes >><< else >><< .nope >><< end >>",
        Ok(()),
    );
    check_later("<< if .later >><< else if .no >><< .nope >><< end >>", Ok(()));
    check_later("<< if .later.x >><< end >>", Err("later.x"));
    check_later("<< .nope >>", Err("nope"));
    // A later name hides the variable: it will be given, and given names come first.
    check_later("<< if .y >><< else >><< .nope >><< end >>", Err("nope"));
}

#[test]
fn a_line_without_actions_holds_just_its_text() {
    let line = "cat << EOF > file\n$((1<<3))\nEOF";
    assert_eq!(parse(line).parts, [Part::Text(line.into())]);
    assert_eq!(parse("").parts, []);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}x{}", "{{ if .yes }}".repeat(depth), "{{ end }}".repeat(depth));
    check(&nested(100), "x");
    let message = "`{{ if .yes }}` is nested in 100 others, more than are allowed";
    check_error(&nested(101), message);
    check_error(&nested(10_000), message);
    check_error(&"{{ if .yes }}".repeat(1_000_000), message);
    // A chain is not nested.
    check(
        &format!("<< if .no >>{}<< else >>x<< end >>", "<< else if .no >>".repeat(10_000)),
        "x",
    );
    check(&format!("{}x", "<< if .no >>a<< end >>".repeat(10_000)), "x");
}

/// Each of these would take minutes and more where something were looked at again and again.
#[test]
fn long_lines_take_linear_time() {
    const LENGTH: usize = 1_000_000;
    for pattern in [
        "<<",
        "<< ",
        "<",
        "<< .a",
        "<< .a ",
        "<< .a | default \"",
        "<< .a | default \"\\\"",
        "<< .a | default \" | default \"",
        "<< .a.",
        "<< if .a ",
        "<< end ",
        "<< else if not ",
        "<<-",
        " <<- ",
        "< < ",
        "{ { ",
    ] {
        let line = pattern.repeat(LENGTH / pattern.len());
        check(&line, &line);
    }
    for (pattern, value) in [
        ("{{ .x }}", "value"),
        (" <<- .empty ->>", ""),
        ("{{ \"{{\" }}", "{{"),
        ("<< if .yes >><< end >>", ""),
    ] {
        let count = LENGTH / pattern.len();
        check(&pattern.repeat(count), &value.repeat(count));
    }
    for pattern in ["{{ \"", "{{", "{{ .x | default \"a\" | ", "{{ .x\n", "\n{{-"] {
        assert!(
            Template::parse(&pattern.repeat(LENGTH / pattern.len()), Delimiters::Both).is_err(),
            "{pattern}"
        );
    }
    check(&format!("<< .x{} >>", " | default \"a\"".repeat(LENGTH / 10)), "value");
    check(&format!("{{{{{} .x }}}}", " ".repeat(LENGTH)), "value");
    check(
        &format!("{}{{{{- .x -}}}}{}", " ".repeat(LENGTH), "\n".repeat(LENGTH)),
        "value",
    );
}

/// What a random line must not do is panic; what it must do is agree between rendering and checking, and leave alone
/// what is not within marks.
#[test]
fn random_lines() {
    const TOKENS: [&str; 41] = [
        "<<",
        ">>",
        "{{",
        "}}",
        "<",
        ">",
        "{",
        "}",
        "-",
        "<<-",
        "->>",
        "{{-",
        "-}}",
        " ",
        "\n",
        ".",
        ".x",
        ".nope",
        ".a.b.c",
        ".list.0",
        "|",
        "default",
        "quote",
        "\"",
        "\\",
        "\"text\"",
        "if",
        "not",
        "else",
        "end",
        "range",
        "ü",
        "😀",
        "{{ if .no }}",
        "<< if .x >>",
        "<< else >>",
        "{{ end }}",
        "<< end >>",
        "<< .x >>",
        "{{ .nope | default \"d\" }}",
        "EOF",
    ];
    let (given, variables) = (Variables::new(), variables(VARIABLES));
    let scope = Scope {
        variables: &variables,
        given: &given,
        later: &[],
    };
    let mut rendered_lines = 0;
    for seed in 1..=8u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..3_000 {
            let count = random(16);
            let line: String = (0..count).map(|_| TOKENS[random(TOKENS.len())]).collect();
            let delimiters = [Delimiters::Both, Delimiters::Angle, Delimiters::Curly][random(3)];
            let Ok(template) = Template::parse(&line, delimiters) else {
                continue;
            };
            let rendered = template.render(&scope);
            assert_eq!(
                template.check(&scope),
                rendered.clone().map(|_| ()),
                "seed {seed}: {line:?}"
            );
            if template.parts.iter().all(|part| matches!(part, Part::Text(_))) && !line.contains("{{") {
                assert_eq!(rendered.as_deref(), Ok(&*line), "seed {seed}: {line:?}");
            }
            rendered_lines += usize::from(rendered.is_ok());
        }
    }
    assert!(
        rendered_lines > 5_000,
        "only {rendered_lines} of 24,000 lines were rendered"
    );
}
