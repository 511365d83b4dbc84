//! `<< .var >>` and `{{ .var }}`: script lines with the values of a job's variables.

use serde_json::Value;

/// The variables of a job, in the order of the request.
pub(crate) type Variables = serde_json::Map<String, Value>;

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
pub(crate) struct Template {}

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
    /// What was found and what to do, for a person.
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
    pub(crate) fn parse(text: &str, delimiters: Delimiters) -> Result<Template, SyntaxError> {
        let _ = (text, delimiters);
        Ok(Template {})
    }
    pub(crate) fn warnings(&self) -> &[String] {
        &[]
    }
    pub(crate) fn render(&self, scope: &Scope<'_>) -> Result<String, Undefined> {
        let _ = scope;
        Ok(String::new())
    }
    pub(crate) fn check(&self, scope: &Scope<'_>) -> Result<(), Undefined> {
        let _ = scope;
        Ok(())
    }
}
/// The value as it prints where a template inserts it.
pub(crate) fn print(value: &Value) -> String {
    value.to_string()
}
