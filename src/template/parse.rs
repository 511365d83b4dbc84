//! From the text of a script line to its parts, in one pass and without recursion.
//!
//! Unaware of variables. Surprise: a `<<` that begins no action is looked at once and then skipped, and the search
//! goes on right behind it, not behind what was read in vain: in `cat << EOF << .x >>` the second one counts.

use super::{Branch, Condition, Delimiters, Filter, Insert, Part, Path, SyntaxError, Template};

/// How deep `if`s may nest. Rendering, comparing and dropping a template recurse as deep.
const MAX_DEPTH: usize = 100;
/// A line with more typos than this is better read than listed; a bound on what a line of many `<< .x` costs.
const MAX_WARNINGS: usize = 10;
/// A `quote` behind another may triple a text, so that twenty make gigabytes of one `'`. Two are of use, for `ssh`.
const MAX_QUOTES: usize = 4;
/// Characters of an action that a message shows.
const SHOWN_ACTION: usize = 60;
/// Characters of an unexpected word that a message shows.
const SHOWN_WORD: usize = 20;

const ACTIONS: &str = "the actions are `.name`, `.name | default \"text\" | quote`, `if .name`, `if not .name`, \
                       `else if .name`, `else`, `end` and `\"text\"`";
const AFTER_VARIABLE: &str = "a variable is `.name` or `.a.b`, names are letters, digits and `_`, and only \
                              `| default \"text\"` and `| quote` may follow";
const FILTERS: &str = "the filters are `default \"text\"` and `quote`";
const TOO_MANY_QUOTES: &str = "an action holds at most four `quote`s";
const CONDITIONS: &str = "a condition is `if .name` or `if not .name`, without filters";
const NOTHING_FOLLOWS: &str = "nothing may follow here";
const ESCAPES: &str = "the only escapes are `\\\"` and `\\\\`";
const UNCLOSED_TEXT: &str = "a text ends with `\"`";
const FOR_OTHERS: &str = "where it is meant for another program, write `{{ \"{{\" }}` for `{{`, or set \
                          `delimiters: [\"<<\", \">>\"]`";

pub(super) fn parse(text: &str, delimiters: Delimiters) -> Result<Template, SyntaxError> {
    let mut parser = Parser {
        text,
        literal_start: 0,
        parts: Vec::new(),
        open: Vec::new(),
        warnings: Vec::new(),
    };
    let mut at = 0;
    while let Some(mark) = next_mark(text, at, delimiters) {
        at = parser.mark(&mark)?;
    }
    parser.finish()
}

/// The two pairs of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    Angle,
    Curly,
}

impl Pair {
    fn end(self) -> &'static str {
        match self {
            Pair::Angle => ">>",
            Pair::Curly => "}}",
        }
    }

    fn trimming_end(self) -> &'static str {
        match self {
            Pair::Angle => "->>",
            Pair::Curly => "-}}",
        }
    }
}

/// A `<<` or `{{` at the byte `start`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    start: usize,
    pair: Pair,
}

/// The next place at or behind `from` where an action may begin. Three `<` and more are a here-string and never do.
fn next_mark(text: &str, from: usize, delimiters: Delimiters) -> Option<Mark> {
    let bytes = text.as_bytes();
    let mut at = from;
    loop {
        at += text[at..].find(['<', '{'])?;
        let run = bytes[at..].iter().take_while(|byte| **byte == bytes[at]).count();
        if bytes[at] == b'<' {
            if run == 2 && delimiters != Delimiters::Curly {
                return Some(Mark {
                    start: at,
                    pair: Pair::Angle,
                });
            }
        } else if run >= 2 && delimiters != Delimiters::Angle {
            return Some(Mark {
                start: at,
                pair: Pair::Curly,
            });
        }
        at += run;
    }
}

struct Parser<'text> {
    text: &'text str,
    /// Where the text begins that belongs to no part yet.
    literal_start: usize,
    /// The parts of the innermost branch that is open.
    parts: Vec<Part>,
    open: Vec<OpenIf>,
    warnings: Vec<String>,
}

/// An `if` whose `end` has not come yet.
struct OpenIf {
    mark: Mark,
    /// The parts before the `if`.
    before: Vec<Part>,
    /// The branches that are complete.
    branches: Vec<Branch>,
    /// The condition of the branch that is open; None behind `else`.
    condition: Option<Condition>,
}

impl Parser<'_> {
    /// Deals with a mark and returns where to look for the next one.
    fn mark(&mut self, mark: &Mark) -> Result<usize, SyntaxError> {
        match read_action(self.text, mark) {
            Ok(found) if mark.pair == Pair::Angle && self.open.is_empty() && found.action.needs_open_if() => {
                Ok(mark.start + 2)
            }
            Ok(found) => self.action(mark, found),
            Err(problem) if mark.pair == Pair::Curly => Err(SyntaxError {
                message: format!(
                    "{}{}; {FOR_OTHERS}",
                    self.place(mark),
                    problem.describe(self.text, mark)
                ),
            }),
            Err(problem) => {
                if problem.names_variable && self.warnings.len() < MAX_WARNINGS {
                    let place = self.place(mark);
                    let description = problem.describe(self.text, mark);
                    self.warnings
                        .push(format!("{place}{description}; as it is, it stays text"));
                }
                Ok(mark.start + 2)
            }
        }
    }

    fn action(&mut self, mark: &Mark, found: Found) -> Result<usize, SyntaxError> {
        let literal = &self.text[self.literal_start..mark.start];
        self.push_text(if found.trim_before {
            literal.trim_ascii_end()
        } else {
            literal
        });
        self.literal_start = found.end;
        if found.trim_after {
            let rest = &self.text[found.end..];
            self.literal_start += rest.len() - rest.trim_ascii_start().len();
        }

        match found.action {
            Action::Insert(insert) => self.parts.push(Part::Insert(insert)),
            Action::Text(text) => self.push_text(&text),
            Action::If(condition) => {
                if self.open.len() == MAX_DEPTH {
                    return Err(self.error(mark, &format!("is nested in {MAX_DEPTH} others, more than are allowed")));
                }
                let before = std::mem::take(&mut self.parts);
                self.open.push(OpenIf {
                    mark: *mark,
                    before,
                    branches: Vec::new(),
                    condition: Some(condition),
                });
            }
            Action::ElseIf(condition) => self.next_branch(mark, Some(condition))?,
            Action::Else => self.next_branch(mark, None)?,
            Action::End => {
                let Some(open) = self.open.pop() else {
                    return Err(self.error(mark, "closes no `if`: none is open"));
                };
                let parts = std::mem::replace(&mut self.parts, open.before);
                let mut branches = open.branches;
                branches.push(Branch {
                    condition: open.condition,
                    parts,
                });
                self.parts.push(Part::If(branches));
            }
        }
        Ok(self.literal_start)
    }

    /// Closes the branch that is open and opens the one of `condition`; None: of `else`.
    fn next_branch(&mut self, mark: &Mark, condition: Option<Condition>) -> Result<(), SyntaxError> {
        let Some(open) = self.open.last_mut() else {
            return Err(self.error(mark, "belongs to no `if`: none is open"));
        };
        if open.condition.is_none() {
            return Err(self.error(mark, "comes behind the `else` of the same `if`: only `end` may"));
        }
        let parts = std::mem::take(&mut self.parts);
        open.branches.push(Branch {
            condition: std::mem::replace(&mut open.condition, condition),
            parts,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Template, SyntaxError> {
        if let Some(open) = self.open.last() {
            let end = match open.mark.pair {
                Pair::Angle => "`<< end >>`",
                Pair::Curly => "`{{ end }}`",
            };
            return Err(self.error(&open.mark, &format!("has no {end}")));
        }
        self.push_text(&self.text[self.literal_start..]);
        self.parts.shrink_to_fit();
        Ok(Template {
            parts: self.parts,
            warnings: self.warnings,
        })
    }

    fn push_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.parts.push(Part::Text(text.into()));
        }
    }

    fn error(&self, mark: &Mark, what: &str) -> SyntaxError {
        SyntaxError {
            message: format!("{}`{}` {what}", self.place(mark), shown_action(self.text, mark)),
        }
    }

    /// `line 2, column 7: ` where the script line has several lines, else nothing.
    fn place(&self, mark: &Mark) -> String {
        if !self.text.trim_end().contains('\n') {
            return String::new();
        }
        let before = &self.text[..mark.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        format!("line {line}, column {column}: ")
    }
}

enum Action {
    Insert(Insert),
    Text(String),
    If(Condition),
    ElseIf(Condition),
    Else,
    End,
}

impl Action {
    fn needs_open_if(&self) -> bool {
        match self {
            Action::ElseIf(_) | Action::Else | Action::End => true,
            Action::Insert(_) | Action::Text(_) | Action::If(_) => false,
        }
    }
}

/// A whole action, with its marks.
struct Found {
    action: Action,
    trim_before: bool,
    trim_after: bool,
    /// The byte behind its end mark.
    end: usize,
}

/// Why what follows a mark is no action. Holds no text of its own: a line may have a great many `<<` that are none.
struct Problem {
    /// The byte where reading failed; the length of the text where it came to its end.
    at: usize,
    expected: &'static str,
    /// There is a `.name`: it was hardly meant as text.
    names_variable: bool,
}

impl Problem {
    fn describe(&self, text: &str, mark: &Mark) -> String {
        let action = shown_action(text, mark);
        let rest = &text[self.at..];
        if rest.is_empty() {
            return format!("`{action}` has no `{}`", mark.pair.end());
        }
        let word = match rest.find(|character| !is_name_character(character)) {
            None => rest,
            Some(0) => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                match rest[..end].find(mark.pair.end()) {
                    None | Some(0) => &rest[..end],
                    Some(end_mark) => &rest[..end_mark],
                }
            }
            Some(end) => &rest[..end],
        };
        format!(
            "`{}` in `{action}` is not supported: {}",
            shorten(word, SHOWN_WORD),
            self.expected
        )
    }
}

/// The action at a mark as a message shows it: up to its first end mark or the end of the line.
fn shown_action(text: &str, mark: &Mark) -> String {
    let line = text[mark.start..].lines().next().unwrap_or_default();
    let end = line.find(mark.pair.end()).map_or(line.len(), |end| end + 2);
    shorten(line[..end].trim_end(), SHOWN_ACTION)
}

fn shorten(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn is_name_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn read_action(text: &str, mark: &Mark) -> Result<Found, Problem> {
    let mut reader = Reader {
        text,
        pair: mark.pair,
        at: mark.start + 2,
        names_variable: false,
    };
    let trim_before = reader.eat("-");
    reader.skip_white_space();
    let start = reader.at;
    let (mut action, expected) = if reader.rest().starts_with('.') {
        (Action::Insert(reader.insert()?), AFTER_VARIABLE)
    } else if mark.pair == Pair::Curly && reader.rest().starts_with('"') {
        (Action::Text(reader.quoted()?), NOTHING_FOLLOWS)
    } else {
        match reader.name() {
            "if" => (Action::If(reader.condition()?), CONDITIONS),
            "else" => {
                let behind_else = reader.at;
                if reader.skip_white_space() && reader.name() == "if" {
                    (Action::ElseIf(reader.condition()?), CONDITIONS)
                } else {
                    reader.at = behind_else;
                    (Action::Else, NOTHING_FOLLOWS)
                }
            }
            "end" => (Action::End, NOTHING_FOLLOWS),
            _ => {
                reader.at = start;
                return Err(reader.problem(ACTIONS));
            }
        }
    };
    reader.skip_white_space();
    let trim_after = reader.eat(mark.pair.trimming_end());
    if !trim_after && !reader.eat(mark.pair.end()) {
        return Err(reader.problem(expected));
    }
    let end = reader.at;
    if let Action::Insert(insert) = &mut action {
        insert.curly_source = (mark.pair == Pair::Curly).then(|| text[mark.start..end].into());
    }
    Ok(Found {
        action,
        trim_before,
        trim_after,
        end,
    })
}

/// Reads one action from left to right. What fails leaves `at` where the problem is.
struct Reader<'text> {
    text: &'text str,
    pair: Pair,
    at: usize,
    names_variable: bool,
}

impl<'text> Reader<'text> {
    fn rest(&self) -> &'text str {
        &self.text[self.at..]
    }

    fn problem(&self, expected: &'static str) -> Problem {
        Problem {
            at: self.at,
            expected,
            names_variable: self.names_variable,
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Returns whether there was any.
    fn skip_white_space(&mut self) -> bool {
        let rest = self.rest();
        let length = rest.len() - rest.trim_ascii_start().len();
        self.at += length;
        length > 0
    }

    /// Reads as many characters of a name as there are, maybe none.
    fn name(&mut self) -> &'text str {
        let rest = self.rest();
        let end = rest
            .find(|character| !is_name_character(character))
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// `.a.b`; the dot is not read yet.
    fn path(&mut self) -> Result<Path, Problem> {
        let start = self.at;
        while self.rest().starts_with('.') {
            let dot = self.at;
            self.at += 1;
            if self.name().is_empty() {
                self.at = dot;
                return Err(self.problem(AFTER_VARIABLE));
            }
            self.names_variable = true;
        }
        Ok(Path(self.text[start + 1..self.at].into()))
    }

    fn insert(&mut self) -> Result<Insert, Problem> {
        let path = self.path()?;
        let mut filters = Vec::new();
        let mut quotes = 0;
        loop {
            let behind = self.at;
            self.skip_white_space();
            if !self.eat("|") {
                self.at = behind;
                break;
            }
            self.skip_white_space();
            let start = self.at;
            filters.push(match self.name() {
                "quote" => {
                    quotes += 1;
                    if quotes > MAX_QUOTES {
                        self.at = start;
                        return Err(self.problem(TOO_MANY_QUOTES));
                    }
                    Filter::Quote
                }
                "default" if self.skip_white_space() && self.rest().starts_with('"') => {
                    Filter::Default(self.quoted()?.into())
                }
                "default" => return Err(self.problem(FILTERS)),
                _ => {
                    self.at = start;
                    return Err(self.problem(FILTERS));
                }
            });
        }
        Ok(Insert {
            path,
            filters,
            curly_source: None,
        })
    }

    /// What follows `if`.
    fn condition(&mut self) -> Result<Condition, Problem> {
        let mut apart = self.skip_white_space();
        let negated = self.rest().starts_with("not");
        if negated {
            let start = self.at;
            if self.name() != "not" {
                self.at = start;
                return Err(self.problem(CONDITIONS));
            }
            apart &= self.skip_white_space();
        }
        if !apart || !self.rest().starts_with('.') {
            return Err(self.problem(CONDITIONS));
        }
        Ok(Condition {
            path: self.path()?,
            negated,
            curly: self.pair == Pair::Curly,
        })
    }

    /// `"text"`; its first quote is not read yet.
    fn quoted(&mut self) -> Result<String, Problem> {
        let start = self.at;
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at = start + offset + 1;
                    return Ok(text);
                }
                '\\' => {
                    let Some((_, escaped @ ('"' | '\\'))) = characters.next() else {
                        self.at = start + offset;
                        return Err(self.problem(ESCAPES));
                    };
                    text.push(escaped);
                }
                other => text.push(other),
            }
        }
        Err(self.problem(UNCLOSED_TEXT))
    }
}
