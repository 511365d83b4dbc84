//! `did you mean`: the known name that is nearest to one that is not known.

/// Names that are longer are neither looked up nor suggested: the comparison takes the product of both lengths.
const MAX_CHARACTERS: usize = 200;

/// The known name with the fewest letters inserted, left out, exchanged or swapped with their neighbour; the first of
/// several. `None` where all are too far away to be meant: by more than a third of their letters.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let letters: Vec<char> = lowercase(name)?;
    let mut best = None;
    let mut nearer_than = usize::MAX;
    for candidate in known {
        let Some(other) = lowercase(candidate) else {
            continue;
        };
        // A single letter is near to every other one, which says nothing.
        if other.len() < 2 {
            continue;
        }
        let allowed = (letters.len().max(other.len()) / 3).max(1).min(nearer_than - 1);
        if let Some(distance) = distance(&letters, &other, allowed) {
            nearer_than = distance;
            best = Some(candidate);
        }
        if nearer_than == 0 {
            break;
        }
    }
    best
}

/// The end of a message about a name that is not known: empty, or "; did you mean `lint`?".
pub(crate) fn did_you_mean<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    nearest(name, known).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}

fn lowercase(name: &str) -> Option<Vec<char>> {
    if name.len() > MAX_CHARACTERS * 4 {
        return None;
    }
    let letters: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    (letters.len() <= MAX_CHARACTERS).then_some(letters)
}

/// `None` where it is more than allowed.
fn distance(one: &[char], other: &[char], allowed: usize) -> Option<usize> {
    if one.len().abs_diff(other.len()) > allowed {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other_letter) in other.iter().enumerate() {
            let exchanged = last[column] + usize::from(letter != other_letter);
            let mut fewest = exchanged.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *other_letter {
                fewest = fewest.min(before_last[column - 1] + 1);
            }
            current.push(fewest);
        }
        // Distances grow from row to row, but for a swap, which looks back two of them.
        if current.iter().chain(&last).all(|distance| *distance > allowed) {
            return None;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    Some(last[other.len()]).filter(|distance| *distance <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 8] = [
        "script",
        "depends_on",
        "lint",
        "render_finished",
        "retention_period",
        "retention_count",
        "a",
        "queue_limit",
    ];

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(nearest(name, KNOWN), expected, "{name}");
    }

    #[test]
    fn near_names_are_found() {
        check("scripts", Some("script"));
        check("scirpt", Some("script"));
        check("Script", Some("script"));
        assert_eq!(nearest("Lint", ["lin", "link", "lint"]), Some("lint"));
        check("lnt", Some("lint"));
        check("dependsOn", Some("depends_on"));
        check("queueLimit", Some("queue_limit"));
        check("render_finishd", Some("render_finished"));
        check("retention_period_hours", Some("retention_period"));
    }

    #[test]
    fn far_names_are_not() {
        check("deploy", None);
        check("b", None);
        check("", None);
        check("limit", None);
        check(&"script".repeat(1_000), None);
    }

    #[test]
    fn the_end_of_a_message() {
        assert_eq!(did_you_mean("lnt", KNOWN), "; did you mean `lint`?");
        assert_eq!(did_you_mean("deploy", KNOWN), "");
    }
}
