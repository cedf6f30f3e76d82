//! The order of nodes, and the cycles that have none.

/// Gives the nodes so that each stands behind those that lead to it, or the nodes of one cycle, in
/// the direction of its edges.
pub(super) fn order(nodes: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Vec<usize>> {
    let mut before = vec![0_usize; nodes];
    let mut after = vec![Vec::new(); nodes];
    for &(from, to) in edges {
        before[to] += 1;
        after[from].push(to);
    }
    let mut order: Vec<usize> = (0..nodes).filter(|&node| before[node] == 0).collect();
    let mut done = 0;
    while let Some(&node) = order.get(done) {
        done += 1;
        for &to in &after[node] {
            before[to] -= 1;
            if before[to] == 0 {
                order.push(to);
            }
        }
    }
    if order.len() == nodes { Ok(order) } else { Err(one_cycle(&before, edges)) }
}

/// The nodes on the ways from one node to another, both included; none if there is no way.
pub(super) fn between(
    nodes: usize,
    edges: &[(usize, usize)],
    (from, to): (usize, usize),
) -> Vec<usize> {
    let backward: Vec<_> = edges.iter().map(|&(from, to)| (to, from)).collect();
    let (behind, before) = (reached(nodes, edges, from), reached(nodes, &backward, to));
    (0..nodes).filter(|&node| behind[node] && before[node]).collect()
}

/// Which nodes are reached from one, itself included.
fn reached(nodes: usize, edges: &[(usize, usize)], from: usize) -> Vec<bool> {
    let mut found = vec![false; nodes];
    let mut left = vec![from];
    while let Some(node) = left.pop() {
        if !std::mem::replace(&mut found[node], true) {
            left.extend(edges.iter().filter(|edge| edge.0 == node).map(|edge| edge.1));
        }
    }
    found
}

/// Walks back along the edges between nodes that wait, until it is where it was.
fn one_cycle(before: &[usize], edges: &[(usize, usize)]) -> Vec<usize> {
    let waits = |node: usize| before[node] > 0;
    let mut path: Vec<usize> = (0..before.len()).find(|&node| waits(node)).into_iter().collect();
    while let Some(&node) = path.last() {
        // What waits, waits for one that waits.
        let Some(&(from, _)) = edges.iter().find(|&&(from, to)| to == node && waits(from)) else {
            break;
        };
        if let Some(start) = path.iter().position(|&other| other == from) {
            let mut cycle = path.split_off(start);
            cycle.reverse();
            return cycle;
        }
        path.push(from);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_a_diamond() {
        assert_eq!(order(4, &[(0, 2), (0, 1), (2, 3), (1, 3)]), Ok(vec![0, 2, 1, 3]));
        assert_eq!(order(0, &[]), Ok(vec![]));
    }

    #[test]
    fn ways_from_one_to_another() {
        let edges = [(0, 1), (1, 2), (0, 2), (2, 3), (4, 2), (2, 5)];
        assert_eq!(between(6, &edges, (0, 3)), [0, 1, 2, 3]);
        assert_eq!(between(6, &edges, (3, 0)), [0; 0]);
        assert_eq!(between(6, &edges, (5, 5)), [5]);
    }

    #[test]
    fn the_cycle_and_not_what_hangs_on_it() {
        assert_eq!(order(5, &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)]), Err(vec![2, 3, 1]));
        assert_eq!(order(1, &[(0, 0)]), Err(vec![0]));
    }
}
