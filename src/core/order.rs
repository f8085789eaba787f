//! Whether things that come after each other can be done in some order.

use std::collections::BTreeMap;

/// Whether they can be done in some order, each with those that it comes after; else some that wait for each other in a circle.
///
/// # Errors
/// The circle.
pub fn order(tasks: &BTreeMap<usize, &[usize]>) -> Result<(), Vec<usize>> {
    let mut left: BTreeMap<usize, usize> =
        tasks.iter().map(|(place, after)| (*place, after.iter().filter(|other| tasks.contains_key(other)).count())).collect();
    let mut dependants: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, after) in tasks {
        for other in *after {
            dependants.entry(*other).or_default().push(*place);
        }
    }
    let mut free: Vec<usize> = left.iter().filter(|(_, count)| **count == 0).map(|(place, _)| *place).collect();
    while let Some(place) = free.pop() {
        left.remove(&place);
        for dependant in dependants.get(&place).into_iter().flatten() {
            if let Some(count) = left.get_mut(dependant) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    free.push(*dependant);
                }
            }
        }
    }
    // What is left waits for itself or for what does: following what each needs ends in a circle.
    let Some(mut at) = left.keys().next().copied() else { return Ok(()) };
    let mut seen = Vec::new();
    while !seen.contains(&at) {
        seen.push(at);
        let Some(next) = tasks.get(&at).and_then(|after| after.iter().find(|other| left.contains_key(other))) else { break };
        at = *next;
    }
    let start = seen.iter().position(|place| *place == at).unwrap_or(0);
    Err(seen.split_off(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn an_order_is_found_exactly_where_there_is_one(edges in prop::collection::vec((0usize..8, 0usize..8), 0..14)) {
            let mut after: BTreeMap<usize, Vec<usize>> = (0..8).map(|place| (place, Vec::new())).collect();
            edges.iter().for_each(|(later, earlier)| after.get_mut(later).expect("there").push(*earlier));
            let found = order(&after.iter().map(|(place, after)| (*place, after.as_slice())).collect());
            // By brute force: who can reach themselves.
            let mut reach: BTreeSet<(usize, usize)> = edges.iter().copied().collect();
            for via in 0..8 {
                for a in 0..8 {
                    for b in 0..8 {
                        if reach.contains(&(a, via)) && reach.contains(&(via, b)) {
                            reach.insert((a, b));
                        }
                    }
                }
            }
            match found {
                Ok(()) => prop_assert!((0..8).all(|place| !reach.contains(&(place, place)))),
                Err(cycle) => {
                    let next = cycle.iter().cycle().skip(1);
                    prop_assert!(!cycle.is_empty() && cycle.iter().zip(next).all(|(later, earlier)| edges.contains(&(*later, *earlier))), "{:?}", cycle);
                }
            }
        }
    }
}
