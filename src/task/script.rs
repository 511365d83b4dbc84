//! Makes of the lines of a script the text that a shell gets.
//!
//! Lines are separate: the task fails at the first whose status is not 0. Yet all run in one shell, so that what one sets is
//! there for the next. Unaware of processes and of who stops them. The surprise: no loop and no positional parameters drive the lines, so
//! that `break`, `$1` and `$#` mean in a line what they mean in a script.

use crate::definition::bounds::StopSignal;

/// One argument can have 128 KiB on Linux; a longer text goes through standard input.
pub(super) const LONGEST_ARGUMENT: usize = 100 * 1024;

/// What the shell is given with `-c` where the text comes through its standard input. The text's own input is empty.
pub(super) const READ_STANDARD_INPUT: &str = r#"eval "$(cat)" </dev/null"#;

/// The text for the shell. Each line is quoted and evaluated by itself, so that an open quote in one does not swallow the
/// next.
pub(super) fn wrap(lines: &[String], allow_failure: bool, stop_signal: StopSignal) -> String {
    // An interrupted script ends behind the command that runs, with that command's status, and never goes on.
    let mut text = format!(
        "trap 'exit $(($? ? $? : {}))' {}",
        stop_signal.exit_code(),
        stop_signal.name
    );
    for (index, line) in lines.iter().enumerate() {
        if index > 0 && !allow_failure {
            text.push_str("\ncase $? in 0) ;; *) exit \"$?\" ;; esac");
        }
        // The blank: bash takes a line that begins with `-` for an option of `eval`. The quotes: a line may have set
        // IFS.
        text.push_str("\neval ' ");
        text.push_str(&line.replace('\'', r"'\''"));
        text.push('\'');
        if allow_failure {
            text.push_str("\ncase $? in 0) ;; *) __prunner_status=$? ;; esac");
        }
    }
    if allow_failure {
        text.push_str("\nexit \"${__prunner_status:-0}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], allow_failure: bool, expected: &str) {
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(wrap(&lines, allow_failure, StopSignal::default()), expected);
    }

    #[test]
    fn each_line_is_evaluated_by_itself() {
        check(
            &["make", "make test"],
            false,
            "trap 'exit $(($? ? $? : 130))' INT\neval ' make'\ncase $? in 0) ;; *) exit \"$?\" ;; esac\neval ' make test'",
        );
    }

    #[test]
    fn with_allow_failure_the_last_failure_is_kept() {
        check(
            &["a"],
            true,
            "trap 'exit $(($? ? $? : 130))' INT\neval ' a'\ncase $? in 0) ;; *) __prunner_status=$? ;; esac\nexit \"${__prunner_status:-0}\"",
        );
    }

    #[test]
    fn the_trap_names_the_signal_that_stops_the_task() {
        let text = wrap(&["make".to_owned()], false, StopSignal::for_tests(15));
        assert_eq!(text, "trap 'exit $(($? ? $? : 143))' TERM\neval ' make'");
    }

    #[test]
    fn quotes_and_line_ends_stay_within_their_line() {
        check(
            &["echo 'a\nb'"],
            false,
            "trap 'exit $(($? ? $? : 130))' INT\neval ' echo '\\''a\nb'\\'''",
        );
    }
}
