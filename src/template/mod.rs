//! `<< .var >>` and `{{ .var }}`: script lines with the values of a job's variables.
//!
//! `parse` turns a line into a [`Template`] when the definitions are loaded, `render` makes the text of it when a job is
//! accepted and when its task starts. Nothing here knows of jobs, files or shells, but for how a shell reads a quoted word.
//!
//! Surprise: the two pairs of marks are not equally strict. `<<` is everyday shell (`cat << EOF`), so what is not wholly
//! an action stays text. `{{` is not, so what is not an action is an error: a template that can't be run must not pass
//! for text. An `if` of one pair may be closed by the `end` of the other: an `if` is open, whichever marks opened it.

mod parse;
mod render;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub(crate) use render::print;
#[cfg(test)]
use render::quote;

/// The variables of a job, in the order of the request.
pub(crate) type Variables = serde_json::Map<String, Value>;

/// The variable that holds a job's id.
pub(crate) const JOB_ID: &str = "__jobID";
/// Names that begin with this are prunner's to give.
const RESERVED_PREFIX: &str = "failedTask";

/// Whether the name is prunner's to give.
pub(crate) fn is_reserved(name: &str) -> bool {
    name == JOB_ID || name.starts_with(RESERVED_PREFIX)
}

/// Which marks begin an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delimiters {
    /// `<< … >>` and `{{ … }}`.
    Both,
    /// `<< … >>` alone; `{{` is text.
    Angle,
    /// `{{ … }}` alone; `<<` is text.
    Curly,
}

/// One script line, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    warnings: Vec<String>,
}

/// What can be named while a line is rendered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// The job's variables.
    pub variables: &'a Variables,
    /// What prunner adds, such as `__jobID` and `failedTaskName`; looked at first.
    pub given: &'a Variables,
    /// Names that will be given a text later; `Template::check` takes them as defined, `Template::render` doesn't.
    pub later: &'a [&'a str],
}

/// Why a line can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// What was found and what to do, for a person; begins with the place where the script line has several lines.
    pub message: String,
}

/// A variable that a line needs and the job doesn't have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undefined {
    /// The path as it is written, without the leading dot: `a.b`.
    pub variable: String,
    /// What to do about it, where that is not plain; for a person, a whole phrase.
    pub hint: Option<String>,
}

impl Template {
    /// Parses one script line, which may hold newlines.
    pub(crate) fn parse(text: &str, delimiters: Delimiters) -> Result<Template, SyntaxError> {
        parse::parse(text, delimiters)
    }

    /// What stayed text though it looks much like an action, for a person; at most ten a line.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The line with the values in place. A value is inserted as it is and never rendered again.
    pub(crate) fn render(&self, scope: &Scope<'_>) -> Result<String, Undefined> {
        render::render(&self.parts, scope)
    }

    /// Whether [`Template::render`] will find all that it needs once the names of `scope.later` have their texts,
    /// whatever these are.
    pub(crate) fn check(&self, scope: &Scope<'_>) -> Result<(), Undefined> {
        render::check(&self.parts, scope)
    }
}

/// A piece of a line. Nests no deeper than the parser allows, so that the recursion over it is bounded.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<str>),
    Insert(Insert),
    If(Vec<Branch>),
}

/// `.a.b | default "text" | quote`
#[derive(Clone, Debug, PartialEq)]
struct Insert {
    path: Path,
    filters: Vec<Filter>,
    /// The whole action as it is written, where its marks are `{{ }}`: for the hint on how to write it as text.
    curly_source: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Filter {
    Default(Box<str>),
    Quote,
}

/// One branch of an `if`: the first whose condition holds is rendered.
#[derive(Clone, Debug, PartialEq)]
struct Branch {
    /// None: the `else`, always the last.
    condition: Option<Condition>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    path: Path,
    /// `if not .x`
    negated: bool,
    /// The marks are `{{ }}`.
    curly: bool,
}

/// `a.b.c`: as it is written, without the leading dot. No name in it is empty.
#[derive(Clone, Debug, PartialEq)]
struct Path(Box<str>);
