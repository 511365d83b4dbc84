//! The order in which jobs list their tasks, and the circles that keep tasks from having one.
//!
//! Unaware of what a task is: tasks are indices in the order of the file, and `depends_on[task]` are those it depends on.
//! Neither function recurses, and both take a time that grows with the dependencies: chains of 10,000 tasks exist.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Again and again the first task in file order all of whose dependencies are listed. Tasks that are part of a circle,
/// or depend on one, are missing.
pub(crate) fn listing(depends_on: &[Vec<usize>]) -> Vec<usize> {
    let mut dependents = vec![Vec::new(); depends_on.len()];
    let mut missing = Vec::with_capacity(depends_on.len());
    let mut ready = BinaryHeap::new();
    for (task, needed) in depends_on.iter().enumerate() {
        for other in needed {
            dependents[*other].push(task);
        }
        missing.push(needed.len());
        if needed.is_empty() {
            ready.push(Reverse(task));
        }
    }
    let mut listed = Vec::with_capacity(depends_on.len());
    while let Some(Reverse(task)) = ready.pop() {
        listed.push(task);
        for dependent in &dependents[task] {
            missing[*dependent] -= 1;
            if missing[*dependent] == 0 {
                ready.push(Reverse(*dependent));
            }
        }
    }
    listed
}

/// Circles of dependencies, none twice, at most `limit`; each begins with its first task in file order and goes on with
/// what that depends on. Where circles share tasks, some may be missing as long as others are there.
pub(crate) fn circles(depends_on: &[Vec<usize>], limit: usize) -> Vec<Vec<usize>> {
    const NEW: usize = usize::MAX;
    const DONE: usize = usize::MAX - 1;
    // For a task on the path its place there.
    let mut place = vec![NEW; depends_on.len()];
    let mut circles = Vec::new();
    for start in 0..depends_on.len() {
        if place[start] != NEW {
            continue;
        }
        // The tasks on the way, each with how many of its dependencies have been looked at.
        let mut path = vec![(start, 0)];
        place[start] = 0;
        while let Some((task, looked_at)) = path.last_mut() {
            let Some(next) = depends_on[*task].get(*looked_at).copied() else {
                place[*task] = DONE;
                path.pop();
                continue;
            };
            *looked_at += 1;
            match place[next] {
                DONE => {}
                NEW => {
                    place[next] = path.len();
                    path.push((next, 0));
                }
                found => {
                    let mut circle: Vec<usize> = path[found..].iter().map(|(task, _)| *task).collect();
                    let first = (0..circle.len()).min_by_key(|index| circle[*index]);
                    circle.rotate_left(first.expect("a circle has at least one task"));
                    circles.push(circle);
                    if circles.len() == limit {
                        return circles;
                    }
                }
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_listing(depends_on: &[&[usize]], expected: &[usize]) {
        let depends_on: Vec<Vec<usize>> = depends_on.iter().map(|needed| needed.to_vec()).collect();
        assert_eq!(listing(&depends_on), expected);
        let all_are_listed = expected.len() == depends_on.len();
        assert_eq!(circles(&depends_on, usize::MAX).is_empty(), all_are_listed);
    }

    #[test]
    fn listing_takes_the_first_that_is_free() {
        check_listing(&[], &[]);
        check_listing(&[&[], &[], &[]], &[0, 1, 2]);
        check_listing(&[&[2], &[], &[]], &[1, 2, 0]);
        // Task 0 comes as soon as it can, before 3, which was free all the time.
        check_listing(&[&[2], &[], &[], &[]], &[1, 2, 0, 3]);
        check_listing(&[&[1], &[2], &[3], &[]], &[3, 2, 1, 0]);
        check_listing(&[&[3], &[3], &[1, 0], &[]], &[3, 0, 1, 2]);
        check_listing(&[&[1], &[0], &[]], &[2]);
    }

    #[track_caller]
    fn check_circles(depends_on: &[&[usize]], expected: &[&[usize]]) {
        let depends_on: Vec<Vec<usize>> = depends_on.iter().map(|needed| needed.to_vec()).collect();
        assert_eq!(circles(&depends_on, usize::MAX), expected);
    }

    #[test]
    fn each_circle_is_found_once() {
        check_circles(&[&[1], &[2], &[]], &[]);
        check_circles(&[&[1], &[0]], &[&[0, 1]]);
        check_circles(&[&[2], &[0], &[1]], &[&[0, 2, 1]]);
        // A tail that leads into a circle, and one that leads out of it.
        check_circles(&[&[1], &[2], &[1, 3], &[]], &[&[1, 2]]);
        check_circles(&[&[2], &[2], &[1]], &[&[1, 2]]);
        check_circles(&[&[1, 2], &[0], &[0]], &[&[0, 1], &[0, 2]]);
        check_circles(&[&[1], &[0], &[3], &[2]], &[&[0, 1], &[2, 3]]);
        check_circles(&[&[1, 2], &[], &[1]], &[]);
    }

    #[test]
    fn circles_are_limited() {
        let everything: Vec<Vec<usize>> = (0..100)
            .map(|task| (0..100).filter(|other| *other != task).collect())
            .collect();
        assert_eq!(circles(&everything, 7).len(), 7);
    }
}
